// The SPDY library of kubelet, crictl and client-go, as a peer of the tests in ../go_peer.rs and as
// the source of the octets in ../fixtures.
//
//	spdy-peer capture DIRECTORY   writes what both ends of a conversation send
//	spdy-peer client ADDRESS      opens streams as client-go does, and checks what comes back
//	spdy-peer serve               prints its address; echoes every stream of one connection
package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/moby/spdystream"
)

func main() {
	var err error
	switch arguments := os.Args[1:]; {
	case len(arguments) == 2 && arguments[0] == "capture":
		err = capture(arguments[1])
	case len(arguments) == 2 && arguments[0] == "client":
		err = client(arguments[1])
	case len(arguments) == 1 && arguments[0] == "serve":
		err = serve()
	default:
		err = fmt.Errorf("usage: spdy-peer capture DIRECTORY | client ADDRESS | serve")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "spdy-peer:", err)
		os.Exit(1)
	}
}

// recorded keeps what is written to a connection.
type recorded struct {
	net.Conn
	lock    sync.Mutex
	written bytes.Buffer
}

func (r *recorded) Write(octets []byte) (int, error) {
	r.lock.Lock()
	r.written.Write(octets)
	r.lock.Unlock()
	return r.Conn.Write(octets)
}

func (r *recorded) save(path string) error {
	r.lock.Lock()
	defer r.lock.Unlock()
	return os.WriteFile(path, r.written.Bytes(), 0o644)
}

// reply answers a stream as k8s.io/streaming does, and echoes it.
func reply(stream *spdystream.Stream) {
	if stream.SendReply(http.Header{}, false) != nil {
		return
	}
	go func() {
		io.Copy(stream, stream)
		stream.Close()
	}()
}

func open(connection *spdystream.Connection, header http.Header) (*spdystream.Stream, error) {
	stream, err := connection.CreateStream(header, nil, false)
	if err != nil {
		return nil, err
	}
	return stream, stream.WaitTimeout(10 * time.Second)
}

func typed(kind string) http.Header {
	header := http.Header{}
	header.Set("streamType", kind)
	return header
}

// capture has an exec's conversation: the streams of client-go, data, a half-close, a ping, a
// reset, the end.
func capture(directory string) error {
	near, far := net.Pipe()
	clientEnd, serverEnd := &recorded{Conn: near}, &recorded{Conn: far}
	server, err := spdystream.NewConnection(serverEnd, true)
	if err != nil {
		return err
	}
	go server.Serve(reply)
	connection, err := spdystream.NewConnection(clientEnd, false)
	if err != nil {
		return err
	}
	go connection.Serve(func(*spdystream.Stream) {})
	streams := map[string]*spdystream.Stream{}
	for _, kind := range []string{"error", "stdin", "stdout", "resize"} {
		if streams[kind], err = open(connection, typed(kind)); err != nil {
			return err
		}
	}
	fmt.Fprint(streams["stdin"], "hello\n")
	if _, err = io.ReadFull(streams["stdin"], make([]byte, 6)); err != nil {
		return err
	}
	if _, err = connection.Ping(); err != nil {
		return err
	}
	streams["stdin"].Close()
	if _, err = io.ReadAll(streams["stdin"]); err != nil {
		return err
	}
	streams["resize"].Reset()
	time.Sleep(100 * time.Millisecond)
	connection.Close()
	time.Sleep(100 * time.Millisecond)
	if err = clientEnd.save(filepath.Join(directory, "client.spdy")); err != nil {
		return err
	}
	return serverEnd.save(filepath.Join(directory, "server.spdy"))
}

// size is what goes over each stream: more than every window there is.
const size = 8 << 20

func pattern(seed int) []byte {
	octets := make([]byte, size)
	state := uint32(seed)*2654435761 + 1
	for i := range octets {
		state = state*1664525 + 1013904223
		octets[i] = byte(state >> 24)
	}
	return octets
}

// client sends a pattern on several streams at once and wants all of it back, twice over one
// connection, then closes as client-go does.
func client(address string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	connection, err := spdystream.NewConnection(conn, false)
	if err != nil {
		return err
	}
	go connection.Serve(func(*spdystream.Stream) {})
	for round := 0; round < 2; round++ {
		results := make(chan error)
		const streams = 4
		for i := 0; i < streams; i++ {
			go func() { results <- echo(connection, round*streams+i) }()
		}
		for i := 0; i < streams; i++ {
			if err := <-results; err != nil {
				return err
			}
		}
	}
	if _, err := connection.Ping(); err != nil {
		return err
	}
	return connection.CloseWait()
}

func echo(connection *spdystream.Connection, seed int) error {
	header := typed("data")
	header.Set("port", "80")
	header.Set("requestID", fmt.Sprint(seed))
	stream, err := open(connection, header)
	if err != nil {
		return err
	}
	sent := pattern(seed)
	failed := make(chan error, 1)
	go func() {
		_, err := io.Copy(stream, bytes.NewReader(sent))
		stream.Close()
		failed <- err
	}()
	received, err := io.ReadAll(stream)
	if err != nil {
		return err
	}
	if err := <-failed; err != nil {
		return err
	}
	if !bytes.Equal(sent, received) {
		return fmt.Errorf("stream %d: %d octets came back, and not those that were sent", seed, len(received))
	}
	return nil
}

func serve() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	conn, err := listener.Accept()
	if err != nil {
		return err
	}
	server, err := spdystream.NewConnection(conn, true)
	if err != nil {
		return err
	}
	server.Serve(reply)
	return nil
}
