package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/auth"
	"github.com/agentedge/agentedge/internal/chat"
	"github.com/agentedge/agentedge/internal/fault"
	"github.com/agentedge/agentedge/internal/trace"
)

const (
	maxURI     = 8 << 10
	maxHeaders = 12 << 10 // net/http allows 4 KiB more than it is told
	headerTime = 10 * time.Second
	bodyTime   = 30 * time.Second
	replyTime  = bodyTime + writeTime // of what is no stream, the rest of the request's body included
	writeTime  = 10 * time.Second     // a reader that takes nothing for so long is gone
)

// Config of a Server.
type Config struct {
	AuthOptional   bool
	Functions      func(name string) Function
	CORSOrigins    []string       // none or "*": any
	TrustedProxies []netip.Prefix // whose X-Forwarded-For counts
	Keepalive      time.Duration  // api.KeepaliveEvery
	Logger         *slog.Logger
}

// Function is what is configured of an edge function.
type Function struct {
	VerifyJWT bool
	Enabled   bool
}

// Server is the edge's HTTP handler.
type Server struct {
	cfg       Config
	log       *slog.Logger
	chat      *chat.Service
	auth      *auth.Verifier
	ready     func(context.Context) error // whether the store answers
	anyOrigin bool
	draining  atomic.Bool
	buffers   sync.Pool // of *[]byte, for frames on their way out
	handler   http.Handler
	lost      http.Handler // of paths that are none
}

// New makes the server.
func New(cfg Config, service *chat.Service, verifier *auth.Verifier, ready func(context.Context) error) *Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Keepalive == 0 {
		cfg.Keepalive = api.KeepaliveEvery
	}
	s := &Server{cfg: cfg, log: cfg.Logger, chat: service, auth: verifier, ready: ready, anyOrigin: takesAny(cfg.CORSOrigins)}
	s.handler, s.lost = s.routes(), s.plain(unknown)
	return s
}

// Refuse makes every further request answer server_draining.
func (s *Server) Refuse() { s.draining.Store(true) }

// HTTP returns a net/http server for this handler, HTTP/1.1 and HTTP/2, with the
// bounds that a public address needs. It has no limit on how long a response lasts.
func (s *Server) HTTP() *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler: s, Protocols: &protocols,
		MaxHeaderBytes: maxHeaders, ReadHeaderTimeout: headerTime, IdleTimeout: 2 * time.Minute,
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: 100, WriteByteTimeout: writeTime},
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// request is what a handler gets: the HTTP request and what was found out about it.
type request struct {
	*http.Request
	trace string
	runID string // of the run it is about, once that is known
	who   auth.Principal
}

// ServeHTTP answers a path that is not in its shortest form itself: net/http's mux
// would redirect it, without the headers that every response has, and a browser
// takes no redirect of a preflight.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	clean := path.Clean(r.URL.Path)
	if clean != "/" && strings.HasSuffix(r.URL.Path, "/") {
		clean += "/"
	}
	if clean != r.URL.Path {
		s.lost.ServeHTTP(w, r)
		return
	}
	s.handler.ServeHTTP(w, r)
}

// plain serves what every request passes: a trace id, CORS, errors.
func (s *Server) plain(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, hr *http.Request) {
		r := &request{Request: hr, trace: trace.FromHeader(hr.Header)}
		w.Header()["X-Trace-Id"] = []string{r.trace}
		if r.ProtoMajor == 1 && len(r.TransferEncoding) > 0 {
			// A Content-Length beside it is dropped by net/http and not to be seen
			// here. A proxy that went by that length has sent us somebody else's
			// request behind this one: it is not read.
			w.Header().Set("Connection", "close")
		}
		if r.ContentLength != 0 {
			// net/http reads what a handler leaves of a body, and waits for it.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime)) // every connection has deadlines
		}
		if s.cors(w, r) {
			return
		}
		s.serve(w, r, h)
	})
}

// guarded serves a path of a function: not while the server drains, and only for
// who may. A method that the path does not have is said before any credential is
// asked for.
func (s *Server) guarded(function string, m methods) http.Handler {
	policy := auth.Policy{VerifyJWT: s.cfg.Functions(function).VerifyJWT, Optional: s.cfg.AuthOptional}
	behind := methods{}
	for method, h := range m {
		behind[method] = func(w http.ResponseWriter, r *request) error {
			if s.draining.Load() {
				return fault.New(api.ServerDraining, "the server is shutting down")
			}
			if len(r.RequestURI) > maxURI {
				return fault.New(api.URITooLong, "the URL is longer than %d bytes", maxURI)
			}
			who, err := s.auth.Authenticate(r.Header, s.address(r.Request), policy, time.Now())
			if err != nil {
				return err
			}
			r.who = who
			return h(w, r)
		}
	}
	return s.open(behind)
}

// serve runs a handler and turns its error, or its panic, into a response.
func (s *Server) serve(w http.ResponseWriter, r *request, h handler) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(p)
		}
		s.log.Error("panic in a request", "trace_id", r.trace, "panic", p)
		if w.Header().Get("Content-Type") != "" { // the response has begun: a cut connection tells the truth
			panic(http.ErrAbortHandler)
		}
		s.fail(w, r, fault.New(api.Internal, "internal error"))
	}()
	if err := h(w, r); err != nil {
		s.fail(w, r, err)
	}
}

// address is the client's IP: the peer's, or the one that trusted proxies name.
func (s *Server) address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	if len(s.cfg.TrustedProxies) == 0 || !s.trusts(host) {
		return host
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		host = hop.Unmap().String()
		if !s.trusts(host) {
			break
		}
	}
	return host
}

func (s *Server) trusts(host string) bool {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	for _, p := range s.cfg.TrustedProxies {
		if p.Contains(addr.Unmap()) {
			return true
		}
	}
	return false
}

// livez says that the process answers; it asks nobody.
func (s *Server) livez(w http.ResponseWriter, _ *request) error {
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	return nil
}

// healthz says whether requests can be served: the store answers and the server
// is not about to stop. A provider's outage does not count.
func (s *Server) healthz(w http.ResponseWriter, r *request) error {
	if s.draining.Load() {
		return fault.New(api.ServerDraining, "the server is shutting down")
	}
	ctx, done := context.WithTimeout(r.Context(), 2*time.Second)
	defer done()
	if err := s.ready(ctx); err != nil {
		return fault.Wrap(err, api.StorageUnavailable, "the store is not available")
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	return nil
}
