package httpapi

import (
	"net/http"
	"strings"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/fault"
)

// prefix is where Supabase's gateway has functions; they answer without it too.
const prefix = "/functions/v1"

// handler serves one route. What it returns becomes the response, unless it has
// written one.
type handler func(w http.ResponseWriter, r *request) error

// routes is every path of the edge.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	s.function(mux, "chat", map[string]handler{
		"POST ":             s.postChat,
		"GET /{id}":         s.getChat,
		"POST /{id}/cancel": s.cancelChat,
		"GET /healthz":      s.healthz,
	})
	mux.Handle("GET /livez", s.plain(s.livez))
	mux.Handle("GET /readyz", s.plain(s.healthz))
	mux.Handle("/", s.plain(unknown))
	return mux
}

// function registers the routes of one edge function under both of its names,
// and the methods that its paths do not have.
func (s *Server) function(mux *http.ServeMux, name string, routes map[string]handler) {
	methods := map[string][]string{}
	for route := range routes {
		method, path, _ := strings.Cut(route, " ")
		methods[path] = append(methods[path], method)
	}
	for _, base := range []string{prefix + "/" + name, "/" + name} {
		for route, h := range routes {
			method, path, _ := strings.Cut(route, " ")
			if path == "/healthz" {
				mux.Handle(method+" "+base+path, s.plain(h))
				continue
			}
			mux.Handle(method+" "+base+path, s.guarded(name, h))
		}
		for path, allowed := range methods {
			mux.Handle(base+path, s.plain(notAllowed(allowed)))
		}
		mux.Handle(base+"/", s.plain(unknown))
	}
}

func notAllowed(methods []string) handler {
	allow := strings.Join(append(methods, http.MethodOptions), ", ")
	return func(w http.ResponseWriter, r *request) error {
		w.Header().Set("Allow", allow)
		return fault.New(api.MethodNotAllowed, "this path takes %s", allow)
	}
}

func unknown(http.ResponseWriter, *request) error {
	return fault.New(api.NotFound, "Requested function was not found")
}
