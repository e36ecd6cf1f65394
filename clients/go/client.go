// Package runloom is a client and a worker for Runloom, a server for agent graphs.
//
// A Client has a method for each RPC. Calls that are safe to repeat are repeated if the server is temporarily unavailable, and streams rejoin at their last
// cursor. A Worker executes nodes, tools, routes and reducers of graphs that run in the server.
package runloom

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// Client is a connection to a server. It is safe for concurrent use.
type Client struct {
	conn    *grpc.ClientConn
	options options
	// The credential of a task of a worker, sent with calls of the item store.
	itemToken string
}

// An Option changes how a client or a worker connects and retries.
type Option func(*options)

type options struct {
	tls             *tls.Config
	apiKey          string
	retry           RetryPolicy
	maxMessageBytes int
	dial            []grpc.DialOption
}

// WithTLS connects with TLS, as an address that begins with https:// does. A nil configuration takes the roots of the system.
func WithTLS(config *tls.Config) Option {
	return func(o *options) {
		if config == nil {
			config = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		o.tls = config
	}
}

// WithAPIKey sends a key with each call, as `authorization: Bearer KEY`. Without TLS others on the network can read it.
func WithAPIKey(key string) Option { return func(o *options) { o.apiKey = key } }

// WithRetry replaces the retry policy. Default: DefaultRetry.
func WithRetry(policy RetryPolicy) Option { return func(o *options) { o.retry = policy } }

// WithMaxMessageBytes limits the size of a message; larger parts of a stream arrive without their data. Default: 64 MiB.
func WithMaxMessageBytes(bytes int) Option { return func(o *options) { o.maxMessageBytes = bytes } }

// WithDialOptions adds options of gRPC.
func WithDialOptions(dial ...grpc.DialOption) Option {
	return func(o *options) { o.dial = append(o.dial, dial...) }
}

// NewClient makes a client of the server at `host:port`, `http://host:port` or `https://host:port`. It connects at the first call.
func NewClient(address string, opts ...Option) (*Client, error) {
	o := options{retry: DefaultRetry, maxMessageBytes: 64 << 20}
	for _, option := range opts {
		option(&o)
	}
	conn, err := o.connect(address)
	if err != nil {
		return nil, err
	}
	return &Client{conn: conn, options: o}, nil
}

// Close closes the connection. Streams end with an error.
func (c *Client) Close() error { return c.conn.Close() }

func (c *Client) maxPartBytes() uint32 { return uint32(min(c.options.maxMessageBytes, 1<<32-1)) }

func (o *options) connect(address string) (*grpc.ClientConn, error) {
	config := o.tls
	if rest, ok := strings.CutPrefix(address, "https://"); ok {
		address = rest
		if config == nil {
			config = &tls.Config{MinVersion: tls.VersionTLS12}
		}
	}
	address = strings.TrimSuffix(strings.TrimPrefix(address, "http://"), "/")
	if address == "" {
		return nil, errors.New("runloom: the address of the server is empty; expected host:port")
	}
	security := insecure.NewCredentials()
	if config != nil {
		security = credentials.NewTLS(config)
	}
	dial := []grpc.DialOption{
		grpc.WithTransportCredentials(security),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 20 * time.Second, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
			MinConnectTimeout: 10 * time.Second,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(o.maxMessageBytes + 1<<20)),
		grpc.WithUserAgent("runloom-go/" + Version),
	}
	if o.apiKey != "" {
		dial = append(dial, grpc.WithPerRPCCredentials(bearer(o.apiKey)))
	}
	return grpc.NewClient(address, append(dial, o.dial...)...)
}

type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity is false, since a server on loopback may have keys and no TLS.
func (b bearer) RequireTransportSecurity() bool { return false }
