// What the readers of this folder share: the transcripts, and ways to cut bytes.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const dir = fileURLToPath(new URL("../transcripts", import.meta.url));

/** Every transcript: its name, its bytes and what a reader must find in them. */
export const transcripts = readdirSync(dir)
  .filter((file) => file.endsWith(".sse"))
  .map((file) => ({
    name: file.slice(0, -".sse".length),
    bytes: readFileSync(join(dir, file)),
    want: JSON.parse(readFileSync(join(dir, file.replace(/\.sse$/, ".json")), "utf8")),
  }));

/** Ways in which bytes may come: each yields Uint8Arrays that are the whole. */
export const arrivals = {
  whole: (bytes) => [bytes],
  "byte by byte": (bytes) => Array.from(bytes, (byte) => Uint8Array.of(byte)),
  "in uneven chunks": (bytes) => {
    const chunks = [];
    let seed = 12345;
    for (let at = 0; at < bytes.length; ) {
      seed = (seed * 1103515245 + 12345) % 2147483648;
      const size = 1 + (seed % 97);
      chunks.push(bytes.subarray(at, at + size));
      at += size;
    }
    return chunks;
  },
};

/** A Response whose body comes in the given chunks. */
export function response(chunks) {
  const source = chunks[Symbol.iterator]();
  return new Response(
    new ReadableStream({
      pull(controller) {
        const { value, done } = source.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
    }),
  );
}

/** What a client makes of events: the text that they leave, and how they end. */
export function meaning(events, before = "") {
  let text = before;
  let end = "";
  let code;
  for (const { event, data } of events) {
    const value = JSON.parse(data);
    if (event === "chat.delta") text = value.reset ? value.delta : text + value.delta;
    if (event === "chat.done") end = "done";
    if (event === "error") {
      end = "error";
      code = value.code;
    }
  }
  return { text, end, code };
}

/** The text of those who read what a transcript follows before. */
export function textBefore(want) {
  if (!want.follows) return "";
  const before = transcripts.find((t) => t.name === want.follows.transcript).want;
  const last = before.events.findIndex((e) => e.id === want.follows.id);
  return meaning(before.events.slice(0, last + 1), textBefore(before)).text;
}
