import assert from "node:assert/strict";
import { test } from "node:test";
import { createParser } from "eventsource-parser";
import { arrivals, meaning, response, textBefore, transcripts } from "./transcripts.js";

/** The parser that most SSE clients of JavaScript are built on. */
async function readByParser(res) {
  const events = [];
  let retry;
  const parser = createParser({
    onEvent: (e) => events.push({ ...(e.id === undefined ? {} : { id: e.id }), event: e.event, data: e.data }),
    onRetry: (ms) => (retry = ms),
    onError: (err) => {
      throw err;
    },
  });
  const decoder = new TextDecoder();
  for await (const chunk of res.body) parser.feed(decoder.decode(chunk, { stream: true }));
  return { events, retry };
}

/** The loop that the runbook gives to those who write their own. */
async function readByRunbook(res) {
  const events = [];
  const reader = res.body.getReader();
  const decoder = new TextDecoder();
  let buf = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    buf += decoder.decode(value, { stream: true });
    let idx;
    while ((idx = buf.indexOf("\n\n")) >= 0) {
      const frame = buf.slice(0, idx);
      buf = buf.slice(idx + 2);
      let event = "message";
      let data = "";
      for (const line of frame.split("\n")) {
        if (line.startsWith("event:")) event = line.slice(6).trim();
        if (line.startsWith("data:")) data += line.slice(5).trim();
      }
      events.push({ event, data });
    }
  }
  assert.equal(buf, "", "bytes are left over");
  return events;
}

for (const { name, bytes, want } of transcripts) {
  for (const [how, chunks] of Object.entries(arrivals)) {
    test(`${name}, ${how}, eventsource-parser`, async () => {
      const { events, retry } = await readByParser(response(chunks(bytes)));
      assert.deepEqual(events, want.events);
      assert.equal(retry, want.retry_ms);
    });
    test(`${name}, ${how}, the runbook's loop`, async () => {
      const events = await readByRunbook(response(chunks(bytes)));
      assert.deepEqual(events, want.events.map(({ event, data }) => ({ event, data })));
    });
  }
  test(`${name}, its meaning`, async () => {
    const got = meaning(await readByRunbook(response([bytes])), textBefore(want));
    assert.equal(got.text, want.text);
    assert.equal(got.end, want.end === "cut" ? "error" : want.end);
    assert.equal(got.code, want.code);
  });
}
