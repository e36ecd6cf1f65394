package runloom

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	v1 "runloom.dev/clients/go/runloom/v1"
)

// WorkerOptions are what a worker is. Only the queue is required.
type WorkerOptions struct {
	// Queue is the name that documents have in `worker.queue`.
	Queue string
	// MaxTasks is how many tasks it executes at once. Default: 100.
	MaxTasks int
	// HeartbeatTimeout is how long it may be silent before the server takes its tasks away. Default: 10 s.
	HeartbeatTimeout time.Duration
	// DrainTimeout is how long its tasks may take to end when its context ends; then they are cancelled. Default: 30 s.
	DrainTimeout time.Duration
	// CacheBytes limits the cache of channel values. Default: 128 MiB. Negative: no cache.
	CacheBytes int
	// Documents are graph documents that it brings, in YAML or JSON.
	Documents []string
	// Description is how people know it. Default: host and process id.
	Description string
}

// Worker executes nodes, tools, routes and reducers of graphs that run in the server. Add its handlers, then call Run.
type Worker struct {
	address  string
	options  WorkerOptions
	settings []Option
	id       string

	handlers map[handlerKey]handler
	client   *Client

	mutex    sync.Mutex
	sessions map[string]*session
}

type handlerKey struct {
	kind v1.HandlerKind
	name string
}

type handler struct {
	description *v1.Handler
	run         func(context.Context, *TaskContext) (*v1.Done, error)
}

// HandlerOption describes a handler.
type HandlerOption func(*Handler)

// WithDescription describes the handler; for a tool, to the model.
func WithDescription(text string) HandlerOption { return func(h *Handler) { h.Description = text } }

// WithInputSchema sets the JSON Schema of the input: the arguments of a tool, or the state of a node.
func WithInputSchema(schema any) HandlerOption {
	return func(h *Handler) { h.InputSchema = MustEncode(schema) }
}

// WithOutputSchema sets the JSON Schema of the output.
func WithOutputSchema(schema any) HandlerOption {
	return func(h *Handler) { h.OutputSchema = MustEncode(schema) }
}

// NewWorker makes a worker of the server at an address. The options are those of a client.
func NewWorker(address string, options WorkerOptions, settings ...Option) *Worker {
	if options.MaxTasks <= 0 {
		options.MaxTasks = 100
	}
	if options.HeartbeatTimeout <= 0 {
		options.HeartbeatTimeout = 10 * time.Second
	}
	if options.DrainTimeout <= 0 {
		options.DrainTimeout = 30 * time.Second
	}
	if options.CacheBytes == 0 {
		options.CacheBytes = 128 << 20
	}
	if options.Description == "" {
		host, _ := os.Hostname()
		options.Description = fmt.Sprintf("%s/go %d", host, os.Getpid())
	}
	return &Worker{
		address: address, options: options, settings: settings, id: newID(),
		handlers: map[handlerKey]handler{}, sessions: map[string]*session{},
	}
}

// ID is the worker's id.
func (w *Worker) ID() string { return w.id }

// AddNode adds a node. The handler returns the writes, an object by channel or nil for none, or a NodeUpdate to also say where the graph goes next.
func (w *Worker) AddNode(name string, run func(context.Context, *TaskContext) (any, error), options ...HandlerOption) {
	w.add(v1.HandlerKind_HANDLER_KIND_NODE, name, options, func(ctx context.Context, task *TaskContext) (*v1.Done, error) {
		result, err := run(ctx, task)
		if err != nil {
			return nil, err
		}
		var e encoder
		update := updateOf(&e, result)
		return &v1.Done{Outcome: &v1.Done_Update{Update: update}}, e.err
	})
}

// AddTool adds a tool. The handler returns the content for the model, or a ToolResult.
func (w *Worker) AddTool(name string, run func(context.Context, *TaskContext) (any, error), options ...HandlerOption) {
	w.add(v1.HandlerKind_HANDLER_KIND_TOOL, name, options, func(ctx context.Context, task *TaskContext) (*v1.Done, error) {
		result, err := run(ctx, task)
		if err != nil {
			return nil, err
		}
		var e encoder
		var p *v1.ToolResult
		switch result := result.(type) {
		case ToolResult:
			p = result.proto(&e)
		case *ToolResult:
			p = result.proto(&e)
		case NodeUpdate, *NodeUpdate:
			p = &v1.ToolResult{Command: updateOf(&e, result)}
		default:
			encoded, err := Encode(result)
			if err != nil {
				return nil, err
			}
			p = &v1.ToolResult{Content: jsonTo(encoded)}
		}
		return &v1.Done{Outcome: &v1.Done_ToolResult{ToolResult: p}}, e.err
	})
}

// AddRoute adds a route. The handler returns the next nodes.
func (w *Worker) AddRoute(name string, run func(context.Context, *TaskContext) ([]Goto, error), options ...HandlerOption) {
	w.add(v1.HandlerKind_HANDLER_KIND_ROUTE, name, options, func(ctx context.Context, task *TaskContext) (*v1.Done, error) {
		result, err := run(ctx, task)
		if err != nil {
			return nil, err
		}
		var e encoder
		p := listTo(result, func(m *Goto) *v1.Goto { return m.proto(&e) })
		return &v1.Done{Outcome: &v1.Done_Route{Route: &v1.Route{Goto: p}}}, e.err
	})
}

// AddReducer adds a reducer. The handler combines the present value, nil if there is none, with the writes of a step.
func (w *Worker) AddReducer(name string, run func(ctx context.Context, present JSON, writes []JSON) (any, error), options ...HandlerOption) {
	w.add(v1.HandlerKind_HANDLER_KIND_REDUCER, name, options, func(ctx context.Context, task *TaskContext) (*v1.Done, error) {
		result, err := run(ctx, task.input, task.writes)
		if err != nil {
			return nil, err
		}
		encoded, err := Encode(result)
		return &v1.Done{Outcome: &v1.Done_Value{Value: jsonTo(encoded)}}, err
	})
}

func updateOf(e *encoder, result any) *v1.NodeUpdate {
	switch result := result.(type) {
	case nil:
		return &v1.NodeUpdate{}
	case NodeUpdate:
		return result.proto(e)
	case *NodeUpdate:
		return result.proto(e)
	default:
		return &v1.NodeUpdate{Update: e.json("update", result)}
	}
}

func (w *Worker) add(kind v1.HandlerKind, name string, options []HandlerOption, run func(context.Context, *TaskContext) (*v1.Done, error)) {
	described := &Handler{Name: name, Kind: kind}
	for _, option := range options {
		option(described)
	}
	var e encoder
	p := described.proto(&e)
	key := handlerKey{kind, name}
	if _, known := w.handlers[key]; known || name == "" || e.err != nil {
		panic(fmt.Sprintf("runloom: handler %q: the name is empty or taken, or a schema cannot be encoded: %v", name, e.err))
	}
	w.handlers[key] = handler{description: p, run: run}
}

// Run attaches the worker and executes tasks until the context ends: then it takes no more tasks, and waits for those that it has. It attaches again when the
// connection breaks. It returns an error if the server refuses the worker, for example because of its documents.
func (w *Worker) Run(ctx context.Context) error {
	if len(w.handlers) == 0 {
		return errors.New("runloom: the worker has no handlers")
	}
	client, err := NewClient(w.address, w.settings...)
	if err != nil {
		return err
	}
	defer client.Close()
	w.client = client

	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var group sync.WaitGroup
	var start func(address string)
	start = func(address string) {
		w.mutex.Lock()
		defer w.mutex.Unlock()
		if w.sessions[address] != nil || ctx.Err() != nil {
			return
		}
		s := newSession(w, address, start)
		w.sessions[address] = s
		group.Add(1)
		go func() {
			defer group.Done()
			if err := s.run(ctx); err != nil {
				stop(err)
			}
			w.forget(address)
		}()
		w.share()
	}
	start(w.address)
	group.Wait()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, ctx.Err()) {
		return cause
	}
	return nil
}

func (w *Worker) forget(address string) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	delete(w.sessions, address)
	w.share()
}

// share divides the number of tasks among the servers. The caller has the lock.
func (w *Worker) share() {
	rest := w.options.MaxTasks
	left := len(w.sessions)
	for _, s := range w.sessions {
		part := max(rest/left, 1)
		rest, left = rest-part, left-1
		s.setShare(part)
	}
}

func (w *Worker) hello() *v1.Hello {
	hello := &v1.Hello{
		WorkerId: w.id, Sdk: "go", SdkVersion: Version, Queue: w.options.Queue, Documents: w.options.Documents,
		MaxTasks: uint32(w.options.MaxTasks), HeartbeatTimeout: durationpb.New(w.options.HeartbeatTimeout),
		CachesState: w.options.CacheBytes > 0, JsonEncoding: v1.JsonEncoding_JSON_ENCODING_TEXT, Description: w.options.Description,
	}
	for _, handler := range w.handlers {
		hello.Handlers = append(hello.Handlers, handler.description)
	}
	return hello
}

// storeClient is a client whose calls carry the task's credential for the item store.
func (w *Worker) storeClient(token string) *Client {
	if token == "" {
		return w.client
	}
	client := *w.client
	client.itemToken = token
	return &client
}

func (c *Client) withItemToken(ctx context.Context) context.Context {
	if c.itemToken == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "runloom-item-token", c.itemToken)
}
