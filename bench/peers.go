package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// The ways from the load generator to the upstream.
const (
	direct   = "direct"
	proxied  = "rp"       // httputil.ReverseProxy
	embedded = "embedded" // agentedge on its SQLite file
	postgres = "postgres" // agentedge on PostgreSQL
)

func peerNames() []string { return []string{direct, proxied, embedded, postgres} }

const (
	users     = 64 // principals whose limits are counted
	jwtSecret = "bench-secret-of-more-than-thirty-two-bytes"
)

// process is one that the driver started and must end.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error
}

func startProcess(cmd *exec.Cmd) (*process, error) {
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	p := &process{cmd: cmd, exited: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop asks the process to end, and ends it after a while.
func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	timer := time.NewTimer(15 * time.Second)
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
		p.cmd.Process.Kill() // it may have ended
		<-p.exited
	}
}

// peer is one way to the upstream, with its process where it has one.
type peer struct {
	name    string
	addr    string
	proc    *process
	started time.Duration // from its start until it was ready
	tokens  []string
	nonce   string
	nth     func() uint64
}

func (p *peer) edge() bool { return p.name == embedded || p.name == postgres }

func (p *peer) dialect(kind requestKind) dialect {
	return dialect{edge: p.edge(), chunks: kind.Pace.Chunks}
}

// requestKind is what a scenario asks for.
type requestKind struct {
	Stream bool
	Pace   pace
}

// filler brings a request's body to about 0.9 KB.
const filler = " Please answer at the pace that is named above, and say nothing of the prompt's length, which is here only because prompts have one." +
	" A turn of a chat carries some hundred words of context on average, so a body of nothing but a directive would flatter whoever parses it." +
	" Whatever stands between an agent and its provider reads these bytes once, checks them, stores them and sends them on; all of that is counted." +
	" The words themselves are of no interest to anybody, and the benchmark's provider does not read them either, apart from the directive." +
	" Four more lines of the same kind would change nothing, so this is where the filler ends, at nine tenths of a kilobyte or so in all."

// request appends the bytes of one request of a worker. Every request to an
// edge has a key of its own and one of a few users' tokens.
func (p *peer) request(dst []byte, kind requestKind, worker int) []byte {
	content := kind.Pace.directive() + filler
	var body, headers, path string
	if p.edge() {
		path = "/functions/v1/chat"
		body = fmt.Sprintf(`{"content":"%s","stream":%t}`, content, kind.Stream)
		headers = "Authorization: Bearer " + p.tokens[worker%len(p.tokens)] +
			"\r\nIdempotency-Key: " + p.nonce + "-" + strconv.FormatUint(p.nth(), 10) + "\r\n"
	} else {
		path = "/v1/chat/completions"
		body = fmt.Sprintf(`{"model":"bench","messages":[{"role":"user","content":"%s"}],"stream":%t}`, content, kind.Stream)
	}
	return fmt.Appendf(dst, "POST %s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s",
		path, headers, len(body), body)
}

// mintTokens makes HS256 user tokens, one for each of a few users.
func mintTokens(n int) ([]string, error) {
	tokens := make([]string, n)
	for i := range tokens {
		claims := jwt.MapClaims{
			"role": "authenticated", "aud": "authenticated",
			"sub": fmt.Sprintf("00000000-0000-4000-8000-%012d", i),
			"exp": time.Now().Add(2 * time.Hour).Unix(),
		}
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(jwtSecret))
		if err != nil {
			return nil, fmt.Errorf("sign token: %w", err)
		}
		tokens[i] = token
	}
	return tokens, nil
}

// startHelper starts this executable as the upstream or the proxy; its first
// line of output is its address.
func startHelper(ctx context.Context, args ...string) (*process, string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", fmt.Errorf("find own executable: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", fmt.Errorf("pipe: %w", err)
	}
	p, err := startProcess(cmd)
	if err != nil {
		return nil, "", err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		p.stop()
		return nil, "", fmt.Errorf("%s said no address: %w", args[0], err)
	}
	return p, strings.TrimSpace(line), nil
}

// startEdge starts agentedge and waits until it is ready.
func startEdge(ctx context.Context, binary, upstream, dir, database string, log io.Writer) (*peer, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	metrics, err := freeAddr()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, binary, "serve")
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.Env = append(edgeEnv(upstream, dir, database), "EDGE_ADDR="+addr, "METRICS_ADDR="+metrics)
	began := time.Now()
	proc, err := startProcess(cmd)
	if err != nil {
		return nil, err
	}
	if err := awaitReady(ctx, proc, addr); err != nil {
		proc.stop()
		return nil, err
	}
	return &peer{addr: addr, proc: proc, started: time.Since(began)}, nil
}

// edgeEnv is the whole environment of an agentedge process: identity, limits and
// keys are on, as in production.
func edgeEnv(upstream, dir, database string) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir,
		"DATABASE_URL=" + database, "EDGE_DATA_DIR=" + filepath.Join(dir, "data"),
		"JWT_SECRET=" + jwtSecret, "EDGE_AUTH_OPTIONAL=false",
		"CHAT_API_BASE=http://" + upstream + "/v1", "CHAT_API_KEY=bench", "CHAT_MODEL_DEFAULT=bench",
		"CHAT_RATE_LIMIT_PER_MIN=100000000", "CHAT_MAX_STREAMS=100000",
	}
}

func freeAddr() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// awaitReady asks /readyz until it says 200, the process ends, or 30 s are over.
func awaitReady(ctx context.Context, proc *process, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", nil)
		if err != nil {
			return fmt.Errorf("ready: %w", err)
		}
		response, err := client.Do(request)
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ticker.C:
		case <-proc.exited:
			return errors.Join(errors.New("the edge ended before it was ready"), proc.err)
		case <-ctx.Done():
			return fmt.Errorf("the edge is not ready: %w", ctx.Err())
		}
	}
}
