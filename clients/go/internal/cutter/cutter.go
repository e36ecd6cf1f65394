// Package cutter is a proxy for tests that cuts a connection after a number of messages.
package cutter

import (
	"encoding/binary"
	"io"
	"net"
	"sync/atomic"
)

// Cutter forwards to a server. Of the first connection it lets a number of frames of the server through and cuts it in the middle of the next one. Later
// connections are not cut.
//
// A server puts as many parts into a frame as it has at the moment. The cutter takes frames apart, so that each message comes in one of its own.
type Cutter struct {
	// Address is where it listens.
	Address string

	listener    net.Listener
	server      string
	frames      int
	connections atomic.Int32
	cut         atomic.Bool
}

const (
	head      = 9
	data      = 0
	endStream = 1
)

// New listens on a free port of loopback.
func New(server string, frames int) (*Cutter, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &Cutter{Address: listener.Addr().String(), listener: listener, server: server, frames: frames}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go c.forward(client, c.connections.Add(1) == 1)
		}
	}()
	return c, nil
}

// Close stops listening.
func (c *Cutter) Close() { c.listener.Close() }

// Cut reports whether it has cut a connection: it has not if the server sent fewer frames.
func (c *Cutter) Cut() bool { return c.cut.Load() }

// Connections is the number of connections so far.
func (c *Cutter) Connections() int { return int(c.connections.Load()) }

func (c *Cutter) forward(client net.Conn, cuts bool) {
	defer client.Close()
	server, err := net.Dial("tcp", c.server)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(server, client)
		server.Close()
	}()
	if cuts {
		c.copyFrames(server, client)
	} else {
		_, _ = io.Copy(client, server)
	}
}

func (c *Cutter) copyFrames(from io.Reader, to io.Writer) {
	left := c.frames
	var unfinished []byte
	for {
		frame, err := readFrame(from)
		if err != nil {
			return
		}
		for _, frame := range split(frame, &unfinished) {
			if left == 0 {
				c.cut.Store(true)
				_, _ = to.Write(frame[:4])
				return
			}
			left--
			if _, err := to.Write(frame); err != nil {
				return
			}
		}
	}
}

func readFrame(from io.Reader) ([]byte, error) {
	frame := make([]byte, head)
	if _, err := io.ReadFull(from, frame); err != nil {
		return nil, err
	}
	length := int(frame[0])<<16 | int(frame[1])<<8 | int(frame[2])
	frame = append(frame, make([]byte, length)...)
	_, err := io.ReadFull(from, frame[head:])
	return frame, err
}

// split returns one frame for each gRPC message in a frame of data, and other frames as they are.
func split(frame []byte, unfinished *[]byte) [][]byte {
	if frame[3] != data || frame[4]&endStream != 0 {
		return [][]byte{frame}
	}
	*unfinished = append(*unfinished, frame[head:]...)
	var frames [][]byte
	for len(*unfinished) >= 5 {
		whole := 5 + int(binary.BigEndian.Uint32((*unfinished)[1:5]))
		if len(*unfinished) < whole {
			break
		}
		part := []byte{byte(whole >> 16), byte(whole >> 8), byte(whole), data, 0}
		part = append(append(part, frame[5:head]...), (*unfinished)[:whole]...)
		frames = append(frames, part)
		*unfinished = (*unfinished)[whole:]
	}
	return frames
}
