package runloom

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	mathrand "math/rand/v2"
	"time"

	"google.golang.org/grpc"

	v1 "runloom.dev/clients/go/runloom/v1"
)

// RetryPolicy is the number and the delays of retries after temporary failures: UNAVAILABLE, a broken connection, and every error for which the server
// names a delay, which is waited for. Delays double, with jitter in their upper half.
type RetryPolicy struct {
	// MaxRetries is the maximum number of consecutive retries. A stream resets the count with each new part. 0: no retries.
	MaxRetries int
	// InitialDelay is the first delay.
	InitialDelay time.Duration
	// MaxDelay is the longest delay, unless the server names a longer one.
	MaxDelay time.Duration
}

// DefaultRetry retries 15 times, more than a minute in all.
var DefaultRetry = RetryPolicy{MaxRetries: 15, InitialDelay: 100 * time.Millisecond, MaxDelay: 8 * time.Second}

// wait waits before the next try. It returns the error if there is none.
func (r RetryPolicy) wait(ctx context.Context, failures int, err error) error {
	var known *Error
	if failures > r.MaxRetries || !errors.As(err, &known) || !known.Transient() || ctx.Err() != nil {
		return err
	}
	timer := time.NewTimer(r.delay(failures, known.RetryDelay))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return wrap(ctx, ctx.Err())
	}
}

func (r RetryPolicy) delay(failures int, asked time.Duration) time.Duration {
	doubled := r.MaxDelay
	if shift := failures - 1; shift < 32 && r.InitialDelay<<shift < r.MaxDelay {
		doubled = r.InitialDelay << shift
	}
	delay := doubled/2 + time.Duration(mathrand.Float64()*float64(doubled)/2)
	if asked > 0 {
		// The jitter is added to the server's delay, so that clients still spread.
		delay = max(asked, delay) + time.Duration(mathrand.Float64()*float64(r.InitialDelay))
	}
	return delay
}

// call calls a unary RPC, and repeats it if that is safe.
func call[Q, R any](ctx context.Context, c *Client, repeat bool, invalid error, request Q,
	rpc func(context.Context, Q, ...grpc.CallOption) (R, error),
) (R, error) {
	if invalid != nil {
		var none R
		return none, invalid
	}
	for failures := 1; ; failures++ {
		response, err := rpc(c.withItemToken(ctx), request)
		if err == nil {
			return response, nil
		}
		err = wrap(ctx, err)
		if !repeat {
			return response, err
		}
		if err = c.options.retry.wait(ctx, failures, err); err != nil {
			return response, err
		}
	}
}

// pages iterates over the items of all pages.
func pages[P, M any](ctx context.Context, c *Client, invalid error, page func(context.Context, string) ([]*P, string, error), convert func(*P) *M,
) iter.Seq2[*M, error] {
	return func(yield func(*M, error) bool) {
		if invalid != nil {
			yield(nil, invalid)
			return
		}
		for token := ""; ; {
			items, next, err := page(ctx, token)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, item := range items {
				if !yield(convert(item), nil) {
					return
				}
			}
			if token = next; token == "" {
				return
			}
		}
	}
}

// newID makes a UUID of version 7: the time in milliseconds, and random bits.
func newID() string {
	var id [16]byte
	_, _ = rand.Read(id[:])
	binary.BigEndian.PutUint64(id[:8], uint64(time.Now().UnixMilli())<<16|uint64(id[6])<<8|uint64(id[7]))
	id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// The functions below fill in the ids that make a creation safe to repeat, and report whether it is.

func prepareCreateThread(p *v1.CreateThreadRequest) bool {
	if p.ThreadId == "" {
		p.ThreadId, p.IfExists = newID(), v1.IfExists_IF_EXISTS_RETURN
	}
	return p.IfExists == v1.IfExists_IF_EXISTS_RETURN
}

func prepareCreateAssistant(p *v1.CreateAssistantRequest) bool {
	if p.AssistantId == "" {
		p.AssistantId, p.IfExists = newID(), v1.IfExists_IF_EXISTS_RETURN
	}
	return p.IfExists == v1.IfExists_IF_EXISTS_RETURN
}

func prepareCreateCron(p *v1.CreateCronRequest) bool {
	if p.Cron != nil && p.Cron.CronId == "" {
		p.Cron.CronId = newID()
	}
	return true
}

func prepareCreateRun(p *v1.CreateRunRequest) bool {
	prepareRun(p.Run)
	return true
}

func prepareWaitRun(p *v1.WaitRunRequest) bool {
	prepareRun(p.GetRun())
	return true
}

func prepareRun(p *v1.RunSpec) {
	if p != nil && p.RequestId == "" {
		p.RequestId = newID()
	}
}
