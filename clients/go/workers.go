package runloom

import (
	"context"
	"time"
)

// WaitForWorker waits until a worker of a queue is attached, and the graphs that it brings are registered.
func (c *Client) WaitForWorker(ctx context.Context, queue string) error {
	for delay := 5 * time.Millisecond; ; delay = min(2*delay, time.Second) {
		response, err := c.ListWorkers(ctx, ListWorkersRequest{Queue: queue, PageSize: 1})
		if err != nil {
			return err
		}
		if len(response.Workers) > 0 {
			return nil
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return wrap(ctx, ctx.Err())
		}
	}
}
