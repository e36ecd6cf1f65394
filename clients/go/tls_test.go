package runloom_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	runloom "runloom.dev/clients/go"
	"runloom.dev/clients/go/internal/testcerts"
	"runloom.dev/clients/go/internal/testserver"
	v1 "runloom.dev/clients/go/runloom/v1"
)

func TestClientWithMutualTLS(t *testing.T) {
	folder := t.TempDir()
	if err := testcerts.Write(folder); err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(folder, name) }
	server := testserver.Start(t, map[string]string{"talk.yaml": talk},
		"--tls-cert", file("server.crt"), "--tls-key", file("server.key"), "--tls-client-ca", file("ca.crt"))
	authority := must(os.ReadFile(file("ca.crt")))(t)
	config := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	config.RootCAs.AppendCertsFromPEM(authority)
	list := func(address string, options ...runloom.Option) error {
		client := must(runloom.NewClient(address, append(options, runloom.WithRetry(runloom.RetryPolicy{}))...))(t)
		defer client.Close()
		for _, err := range client.ListGraphs(limit(t), runloom.ListGraphsRequest{}) {
			return err
		}
		return nil
	}
	if err := list("https://"+server.Address, runloom.WithTLS(config.Clone())); err == nil {
		t.Fatal("the server accepts a client without a certificate")
	}
	config.Certificates = []tls.Certificate{must(tls.LoadX509KeyPair(file("client.crt"), file("client.key")))(t)}
	if err := list("https://"+server.Address, runloom.WithTLS(config)); err != nil {
		t.Fatal(err)
	}
	if err := list("https://" + server.Address); err == nil {
		t.Fatal("the client accepts a certificate of an unknown authority")
	}
}

// headersServer records the headers of calls.
type headersServer struct {
	v1.UnimplementedWorkersServer
	headers chan metadata.MD
}

func (h *headersServer) ListWorkers(ctx context.Context, _ *v1.ListWorkersRequest) (*v1.ListWorkersResponse, error) {
	headers, _ := metadata.FromIncomingContext(ctx)
	h.headers <- headers
	return &v1.ListWorkersResponse{}, nil
}

func TestClientSendsItsKey(t *testing.T) {
	listener := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	fake, server := &headersServer{headers: make(chan metadata.MD, 1)}, grpc.NewServer()
	v1.RegisterWorkersServer(server, fake)
	go server.Serve(listener)
	defer server.Stop()
	client := must(runloom.NewClient(listener.Addr().String(), runloom.WithAPIKey("secret")))(t)
	defer client.Close()
	must(client.ListWorkers(limit(t), runloom.ListWorkersRequest{}))(t)
	if got := within(t, fake.headers).Get("authorization"); len(got) != 1 || got[0] != "Bearer secret" {
		t.Fatalf("%q", got)
	}
}
