// Package testserver runs `runloom serve` for tests.
package testserver

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// Server is a process of its own, on a free port.
type Server struct {
	Address string

	t       testing.TB
	home    string
	options []string
	command *exec.Cmd
	ended   chan struct{}
	output  log
}

// Root is the root of the repository.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "..", "..")
}

// Binary is the server's binary: $RUNLOOM_BIN, or that of a debug build.
func Binary() string {
	if path := os.Getenv("RUNLOOM_BIN"); path != "" {
		return path
	}
	return filepath.Join(Root(), "target", "debug", "runloom")
}

// Start starts a server with documents, by file name, and waits until it serves. It is stopped at the end of the test. With options it only waits until it
// listens.
func Start(t testing.TB, documents map[string]string, options ...string) *Server {
	t.Helper()
	home := t.TempDir()
	graphs := filepath.Join(home, "graphs")
	if err := os.Mkdir(graphs, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range documents {
		if err := os.WriteFile(filepath.Join(graphs, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s := &Server{Address: freeAddress(t), t: t, home: home, options: options}
	s.Start()
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("the server's output:\n%s", s.output.String())
		}
	})
	return s
}

// Example reads a document of the repository's examples.
func Example(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Root(), "examples", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Start starts the process again, on the same port and data.
func (s *Server) Start() {
	s.t.Helper()
	s.command = exec.Command(Binary(), append([]string{
		"serve", "--grpc", s.Address, "--http", "off", "--graphs", filepath.Join(s.home, "graphs"), "--data", filepath.Join(s.home, "data"),
	}, s.options...)...)
	s.command.Stdout, s.command.Stderr = &s.output, &s.output
	if err := s.command.Start(); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	process, ended := s.command, make(chan struct{})
	s.ended = ended
	go func() {
		_ = process.Wait()
		close(ended)
		cancel()
	}()
	if len(s.options) > 0 {
		for ctx.Err() == nil {
			if conn, err := net.Dial("tcp", s.Address); err == nil {
				conn.Close()
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		s.t.Fatalf("the server does not listen\n%s", s.output.String())
	}
	quick := grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: time.Second, Backoff: backoff.Config{BaseDelay: 20 * time.Millisecond, MaxDelay: 50 * time.Millisecond}})
	conn, err := grpc.NewClient(s.Address, grpc.WithTransportCredentials(insecure.NewCredentials()), quick)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	watch, err := grpc_health_v1.NewHealthClient(conn).Watch(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(true))
	for err == nil {
		var answer *grpc_health_v1.HealthCheckResponse
		if answer, err = watch.Recv(); answer.GetStatus() == grpc_health_v1.HealthCheckResponse_SERVING {
			return
		}
	}
	s.t.Fatalf("the server does not serve: %v\n%s", err, s.output.String())
}

// Kill ends the process as a crash would.
func (s *Server) Kill() {
	_ = s.command.Process.Kill()
	<-s.ended
}

// Stop asks the process to end, and waits until it has.
func (s *Server) Stop() {
	_ = s.command.Process.Signal(syscall.SIGTERM)
	<-s.ended
}

func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

type log struct {
	mutex sync.Mutex
	text  []byte
}

func (l *log) Write(text []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.text = append(l.text, text...)
	return len(text), nil
}

func (l *log) String() string {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return string(l.text)
}
