package httpapi

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/fault"
)

// prefix is where Supabase's gateway has functions; they answer without it too.
const prefix = "/functions/v1"

// handler serves one method of one path. What it returns becomes the response,
// unless it has written one.
type handler func(w http.ResponseWriter, r *request) error

// methods are the handlers of one path.
type methods map[string]handler

// routes is every path of the edge.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	s.function(mux, "chat", map[string]methods{
		"":             {"POST": s.postChat},
		"/{id}":        {"GET": s.getChat},
		"/{id}/cancel": {"POST": s.cancelChat},
	})
	mux.Handle("/livez", s.open(methods{"GET": s.livez, "HEAD": s.livez}))
	mux.Handle("/readyz", s.open(methods{"GET": s.healthz, "HEAD": s.healthz}))
	mux.Handle("/", s.plain(unknown))
	return mux
}

// function registers the paths of one edge function under both of its names. Its
// healthz needs no credential.
func (s *Server) function(mux *http.ServeMux, name string, paths map[string]methods) {
	if !s.cfg.Functions(name).Enabled {
		return
	}
	for _, base := range []string{prefix + "/" + name, "/" + name} {
		for path, m := range paths {
			mux.Handle(base+path, s.guarded(name, m))
		}
		mux.Handle(base+"/healthz", s.open(methods{"GET": s.healthz, "HEAD": s.healthz}))
		mux.Handle(base+"/", s.plain(unknown))
	}
}

// open serves a path that needs no credential.
func (s *Server) open(m methods) http.Handler { return s.plain(m.serve()) }

// serve picks the handler of a request's method.
func (m methods) serve() handler {
	allow := strings.Join(append(slices.Sorted(maps.Keys(m)), http.MethodOptions), ", ")
	return func(w http.ResponseWriter, r *request) error {
		h := m[r.Method]
		if h == nil {
			w.Header().Set("Allow", allow)
			return fault.New(api.MethodNotAllowed, "this path takes %s", allow)
		}
		return h(w, r)
	}
}

func unknown(http.ResponseWriter, *request) error {
	return fault.New(api.NotFound, "Requested function was not found")
}
