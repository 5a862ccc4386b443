package simwallet

import (
	"context"
	"net"
	"sync"
)

// Pipe is a listener whose connections stay in memory, so that wallets can be
// asked in fake time (testing/synctest): Serve takes it, wallet.Config.Dial is
// its Dial.
type Pipe struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// NewPipe makes one.
func NewPipe() *Pipe { return &Pipe{conns: make(chan net.Conn), closed: make(chan struct{})} }

// Dial connects to whoever accepts, whatever the address.
func (p *Pipe) Dial(ctx context.Context, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept, Close and Addr make it a net.Listener.
func (p *Pipe) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close ends it; connections that exist stay.
func (p *Pipe) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// Addr is a name and no address.
func (p *Pipe) Addr() net.Addr { return &net.UnixAddr{Name: "wallets", Net: "pipe"} }
