package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// load is what one measured stretch produced.
type load struct {
	mu      sync.Mutex
	Done    int // requests answered whole
	Lost    int // requests that were not
	Err     error
	Took    time.Duration
	Timings []timing
}

func (l *load) add(t *timing, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.Lost++
		if l.Err == nil {
			l.Err = err
		}
		return
	}
	l.Done++
	if t != nil {
		l.Timings = append(l.Timings, *t)
	}
}

// saturate keeps width requests in flight for so long: each worker sends its
// next request when it has read the last answer.
func saturate(ctx context.Context, p *peer, kind requestKind, width int, d time.Duration) *load {
	l := &load{}
	began := time.Now()
	var workers sync.WaitGroup
	for w := range width {
		workers.Go(func() {
			c := newConn(p.addr)
			defer c.close()
			var request []byte
			for ctx.Err() == nil && time.Since(began) < d {
				request = p.request(request[:0], kind, w)
				var err error
				if kind.Stream {
					err = c.stream(ctx, request, p.dialect(kind), &timing{}, 30*time.Second, nil)
				} else {
					err = c.plain(ctx, request, []byte{mark})
				}
				l.add(nil, err)
				if err != nil && l.giveUp() {
					return
				}
			}
		})
	}
	workers.Wait()
	l.Took = time.Since(began)
	return l
}

// giveUp ends a stretch in which nothing works, instead of counting failures as
// fast as they come.
func (l *load) giveUp() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Lost > 100 && l.Lost > l.Done
}

// pool hands out idle connections, so that an open loop dials only as many as
// it needs at once.
type pool struct {
	addr string
	idle chan *conn
}

func newPool(addr string, size int) *pool {
	return &pool{addr: addr, idle: make(chan *conn, size)}
}

func (p *pool) get() *conn {
	select {
	case c := <-p.idle:
		return c
	default:
		return newConn(p.addr)
	}
}

func (p *pool) put(c *conn) {
	select {
	case p.idle <- c:
	default:
		c.close()
	}
}

func (p *pool) close() {
	for {
		select {
		case c := <-p.idle:
			c.close()
		default:
			return
		}
	}
}

// ended counts the requests that are over.
func (l *load) ended() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(l.Done + l.Lost)
}

// schedule starts n streams at a fixed rate, whatever becomes of those before,
// and returns when all have ended.
func (l *load) schedule(ctx context.Context, p *peer, kind requestKind, n int, rate float64, first func()) {
	conns := newPool(p.addr, n)
	defer conns.close()
	patience := time.Minute + kind.Pace.First + time.Duration(kind.Pace.Chunks)*kind.Pace.Gap
	began := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var streams sync.WaitGroup
	for i := range n {
		timer.Reset(time.Until(began.Add(time.Duration(float64(i) / rate * float64(time.Second)))))
		if !await(ctx, timer) {
			break
		}
		streams.Go(func() {
			c := conns.get()
			defer conns.put(c)
			t := timing{Transit: make([]time.Duration, 0, kind.Pace.Chunks)}
			l.add(&t, c.stream(ctx, p.request(nil, kind, i), p.dialect(kind), &t, patience, first))
		})
	}
	streams.Wait()
	l.Took = time.Since(began)
}

// memory is the most that a process was seen to hold, and how many streams were
// open at once.
type memory struct {
	PeakKiB int64
	Open    int64
}

// hold opens n slow streams and watches the peer's memory until all have ended.
func hold(ctx context.Context, p *peer, kind requestKind, n int, rate float64) (*load, memory, error) {
	var (
		l       = &load{}
		started atomic.Int64
		seen    memory
		failed  error
		watcher sync.WaitGroup
		stop    = make(chan struct{})
	)
	watcher.Go(func() {
		ticker := time.NewTicker(250 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
			}
			kib, err := residentKiB(p.proc.pid())
			if err != nil {
				failed = fmt.Errorf("%s: %w", p.name, err)
				return
			}
			seen.PeakKiB = max(seen.PeakKiB, kib)
			seen.Open = max(seen.Open, started.Load()-l.ended())
		}
	})
	l.schedule(ctx, p, kind, n, rate, func() { started.Add(1) })
	close(stop)
	watcher.Wait()
	return l, seen, failed
}
