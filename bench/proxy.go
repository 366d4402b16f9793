package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"time"
)

// serveProxy is the yardstick's process.
func serveProxy(ctx context.Context, target string, stdout io.Writer) error {
	base, err := url.Parse(target)
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	return serveLocal(ctx, newProxy(base), stdout)
}

// newProxy is a bare reverse proxy of the standard library. The request body is
// read whole before it is forwarded: passed through, some streams are lost when
// the upstream answers before the transport has seen the body's end
// (golang/go#40747), and a yardstick that loses work measures nothing.
func newProxy(base *url.URL) http.Handler {
	return bufferBody(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(base) },
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 16384,
			IdleConnTimeout:     90 * time.Second,
			DisableCompression:  true,
		},
		FlushInterval: -1,
	})
}

func bufferBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, "body: "+err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.ContentLength = int64(len(body))
		r.Header.Set("Content-Length", strconv.Itoa(len(body)))
		next.ServeHTTP(w, r)
	})
}
