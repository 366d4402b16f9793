package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of CPU times in /proc: USER_HZ, 100 a second on every Linux
// that Go runs on.
const tick = 10 * time.Millisecond

// procStat is what /proc/<pid>/stat tells of a process.
type procStat struct {
	Parent   int
	Own      time.Duration // user and system time of the process
	Children time.Duration // of its children that ended and were waited for
}

func parseStat(data []byte) (procStat, error) {
	// The command's name may hold spaces and brackets; the fields begin after it.
	end := bytes.LastIndexByte(data, ')')
	fields := strings.Fields(string(data[end+1:]))
	if end < 0 || len(fields) < 15 {
		return procStat{}, fmt.Errorf("stat has %d fields", len(fields))
	}
	var n [5]int64
	for i, at := range []int{1, 11, 12, 13, 14} { // ppid utime stime cutime cstime
		v, err := strconv.ParseInt(fields[at], 10, 64)
		if err != nil {
			return procStat{}, fmt.Errorf("stat field %d: %w", at, err)
		}
		n[i] = v
	}
	return procStat{
		Parent:   int(n[0]),
		Own:      time.Duration(n[1]+n[2]) * tick,
		Children: time.Duration(n[3]+n[4]) * tick,
	}, nil
}

func readStat(pid int) (procStat, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, fmt.Errorf("read stat: %w", err)
	}
	return parseStat(data)
}

// familyCPU is the CPU time of a process, its children, and the children it has
// already waited for: all of a PostgreSQL server, backends come and gone.
func familyCPU(parent int) (time.Duration, error) {
	stat, err := readStat(parent)
	if err != nil {
		return 0, err
	}
	sum := stat.Own + stat.Children
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, fmt.Errorf("list processes: %w", err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // it ended since the listing; its time is the parent's by now
		}
		if child, err := parseStat(data); err == nil && child.Parent == parent {
			sum += child.Own
		}
	}
	return sum, nil
}

// residentKiB is a process's resident memory.
func residentKiB(pid int) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read status: %w", err)
	}
	return parseResident(data)
}

func parseResident(data []byte) (int64, error) {
	for line := range strings.Lines(string(data)) {
		rest, ok := strings.CutPrefix(line, "VmRSS:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("VmRSS: %w", err)
		}
		return kib, nil
	}
	return 0, fmt.Errorf("no VmRSS in status")
}

// writeCalls is how often a process has called write, on sockets too.
func writeCalls(pid int) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, fmt.Errorf("read io: %w", err)
	}
	_, rest, ok := strings.Cut(string(data), "syscw: ")
	line, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.ParseInt(line, 10, 64)
	if err != nil || !ok {
		return 0, fmt.Errorf("syscw %q in io: %w", line, err)
	}
	return n, nil
}

// raiseFiles lifts the limit of open files as far as it goes and refuses a
// machine on which the slow streams could not be held.
func raiseFiles(need uint64) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("raise the limit of open files: %w", err)
	}
	if limit.Max < need {
		return fmt.Errorf("at most %d open files are allowed here, %d are needed (ulimit -n)", limit.Max, need)
	}
	return nil
}

// machine is what a reader needs to judge the figures, and nothing that names
// the machine.
type machine struct {
	CPU     string  `json:"cpu"`
	Cores   int     `json:"cores"`
	OS      string  `json:"os"`
	Go      string  `json:"go"`
	Load1   string  `json:"load_1m_before"`
	FsyncP5 float64 `json:"fsync_p50_ms"`
	FsyncP9 float64 `json:"fsync_p99_ms"`
}

func readMachine(dir string) (machine, error) {
	m := machine{Cores: runtime.NumCPU(), OS: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version()}
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, rest, _ := strings.Cut(string(data), "model name")
		line, _, _ := strings.Cut(rest, "\n")
		m.CPU = strings.Trim(line, "\t :")
	}
	if data, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load1, _, _ = strings.Cut(string(data), " ")
	}
	times, err := timeFsync(dir, 200)
	if err != nil {
		return m, err
	}
	m.FsyncP5, m.FsyncP9 = quantile(times, 0.5), quantile(times, 0.99)
	return m, nil
}

// timeFsync appends pages to a file and syncs each, as a store's log does.
func timeFsync(dir string, n int) ([]float64, error) {
	f, err := os.CreateTemp(dir, "fsync")
	if err != nil {
		return nil, fmt.Errorf("fsync probe: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	page := make([]byte, 8192)
	times := make([]float64, 0, n)
	for range n {
		began := time.Now()
		if _, err := f.Write(page); err != nil {
			return nil, fmt.Errorf("fsync probe: %w", err)
		}
		if err := f.Sync(); err != nil {
			return nil, fmt.Errorf("fsync probe: %w", err)
		}
		times = append(times, millis(time.Since(began)))
	}
	return times, nil
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// quantile of values by nearest rank; 0 for none.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// median of a few rounds: the middle, or the mean of the two in the middle.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	mid := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[mid]
	}
	return (sorted[mid-1] + sorted[mid]) / 2
}
