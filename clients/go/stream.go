package runloom

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	v1 "runloom.dev/clients/go/runloom/v1"
)

// Stream has the parts of a run, or of all runs of a thread, in order, each once: `for part, err := range stream`.
//
// If the connection breaks, the server drains, or the stream ends without an End, it rejoins at its last cursor, according to the RetryPolicy. An error
// that cannot be retried is the last item. The stream of a run ends after its End. A run that failed is not an error of the stream: see End.Error. Leaving
// the loop closes the stream and does not stop the run, unless its OnDisconnect is CANCEL.
type Stream func(yield func(*Part, error) bool)

// End reads until a run ends.
func (s Stream) End() (*End, error) {
	for part, err := range s {
		if err != nil {
			return nil, err
		}
		if end, ok := part.Payload.(*End); ok {
			return end, nil
		}
	}
	return nil, &Error{Code: codes.OutOfRange, Message: "the stream has ended already"}
}

type parts = grpc.ServerStreamingClient[v1.StreamRunResponse]

// position is what is needed to open a stream again.
type position struct {
	runID, cursor string
	// The highest seq of each run that has not ended.
	seen map[string]uint64
}

// StreamRun creates a run and streams it to its end. Iterating again streams the same run from its start.
func (c *Client) StreamRun(ctx context.Context, spec RunSpec) Stream {
	var e encoder
	run := spec.proto(&e)
	prepareRun(run)
	runs := v1.NewRunsClient(c.conn)
	return c.stream(ctx, e.err, false, position{}, func(ctx context.Context, at *position) (parts, error) {
		if at.runID == "" {
			return runs.StreamRun(ctx, &v1.StreamRunRequest{
				Run: run, JsonEncoding: v1.JsonEncoding_JSON_ENCODING_TEXT, MaxPartBytes: c.maxPartBytes(),
			})
		}
		return runs.JoinRun(ctx, &v1.JoinRunRequest{
			RunId: at.runID, Cursor: at.cursor, JsonEncoding: v1.JsonEncoding_JSON_ENCODING_TEXT, MaxPartBytes: c.maxPartBytes(),
		})
	})
}

// JoinRun streams an existing run to its end, from the request's cursor or from the start of its log.
func (c *Client) JoinRun(ctx context.Context, request JoinRunRequest) Stream {
	var e encoder
	p := request.proto(&e)
	p.JsonEncoding, p.MaxPartBytes = v1.JsonEncoding_JSON_ENCODING_TEXT, c.maxPartBytes()
	return c.stream(ctx, e.err, false, position{runID: request.RunID, cursor: request.Cursor}, func(ctx context.Context, at *position) (parts, error) {
		p.Cursor = at.cursor
		return v1.NewRunsClient(c.conn).JoinRun(ctx, p)
	})
}

// StreamThread streams all runs of a thread, one after the other. It has no end.
func (c *Client) StreamThread(ctx context.Context, request StreamThreadRequest) Stream {
	var e encoder
	p := request.proto(&e)
	p.JsonEncoding, p.MaxPartBytes = v1.JsonEncoding_JSON_ENCODING_TEXT, c.maxPartBytes()
	return c.stream(ctx, e.err, true, position{cursor: request.Cursor}, func(ctx context.Context, at *position) (parts, error) {
		p.Cursor = at.cursor
		return v1.NewThreadsClient(c.conn).StreamThread(ctx, p)
	})
}

func (c *Client) stream(ctx context.Context, invalid error, thread bool, from position, open func(context.Context, *position) (parts, error)) Stream {
	return func(yield func(*Part, error) bool) {
		if invalid != nil {
			yield(nil, invalid)
			return
		}
		at := from
		at.seen = map[string]uint64{}
		failures := 0
		for {
			err := c.read(ctx, thread, &at, open, &failures, yield)
			if err == nil {
				return
			}
			failures++
			if err = c.options.retry.wait(ctx, failures, wrap(ctx, err)); err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// read reads one connection of a stream. It returns nil if the stream has ended or the reader has left.
func (c *Client) read(ctx context.Context, thread bool, at *position, open func(context.Context, *position) (parts, error), failures *int,
	yield func(*Part, error) bool,
) error {
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := open(call, at)
	if err != nil {
		return err
	}
	for first := true; ; first = false {
		p, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return broken("the stream stopped before its end")
		}
		if err != nil {
			return err
		}
		if !at.accept(p) {
			continue
		}
		// The first part of a stream does not reset the count of failures: a server may fail right after it each time.
		if p.Seq > 0 || !first {
			*failures = 0
		}
		if !yield(newPart(p), nil) {
			return nil
		}
		if p.GetEnd() != nil && !thread {
			return nil
		}
	}
}

// accept advances to a part. It returns false if the part was received before, as is the Metadata at the start of a later join.
func (at *position) accept(p *v1.StreamRunResponse) bool {
	last, known := at.seen[p.RunId]
	if known && (p.Seq == 0 && p.GetMetadata() != nil || p.Seq > 0 && p.Seq <= last) {
		return false
	}
	if p.RunId != "" {
		at.seen[p.RunId] = max(last, p.Seq)
		at.runID = p.RunId
	}
	if p.GetEnd() != nil {
		delete(at.seen, p.RunId)
	}
	if p.Cursor != "" {
		at.cursor = p.Cursor
	}
	return true
}
