// Load on one unary gRPC method: bytes made beforehand in, bytes out, nothing decoded. Prints one JSON object.
//
//	load -addr 127.0.0.1:8970 -method /inference.GRPCInferenceService/ModelInfer -body request.bin -callers 8 -seconds 5
//
// Without -rate each caller sends its next request when it has the answer to the last (closed loop). With -rate requests are due
// at fixed times, whatever the server does, and a request's latency counts from when it was due (open loop).
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// asBytes is a codec that leaves messages as they are.
type asBytes struct{}

func (asBytes) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (asBytes) Unmarshal(data []byte, v any) error {
	*(v.(*[]byte)) = append([]byte(nil), data...)
	return nil
}
func (asBytes) Name() string { return "proto" }

type plan struct {
	addr, method   string
	body           []byte
	callers, conns int
	seconds, warm  float64
	rate           float64
	timeout        time.Duration
	header         string
	begin, end     time.Time
}

// tally is what one caller saw between begin and end.
type tally struct {
	millis  []float64
	errors  map[string]int
	example string
}

// Result times are milliseconds.
type Result struct {
	PerSecond float64        `json:"per_second"`
	P50       float64        `json:"p50_ms"`
	P90       float64        `json:"p90_ms"`
	P99       float64        `json:"p99_ms"`
	P999      float64        `json:"p999_ms"`
	Most      float64        `json:"max_ms"`
	Requests  int            `json:"requests"`
	Errors    int            `json:"errors"`
	Codes     map[string]int `json:"codes"`
	Example   string         `json:"example"`
	Seconds   float64        `json:"seconds"`
}

func main() {
	p := read()
	connections := dial(p)
	start := time.Now()
	p.begin = start.Add(time.Duration(p.warm * float64(time.Second)))
	p.end = p.begin.Add(time.Duration(p.seconds * float64(time.Second)))
	due := schedule(p, start)
	tallies := make([]tally, p.callers)
	var group sync.WaitGroup
	for i := range p.callers {
		group.Add(1)
		go func() {
			defer group.Done()
			tallies[i] = call(p, connections[i%len(connections)], due)
		}()
	}
	group.Wait()
	out, _ := json.Marshal(sum(p, tallies))
	fmt.Println(string(out))
}

func read() plan {
	var p plan
	var body string
	flag.StringVar(&p.addr, "addr", "", "host:port")
	flag.StringVar(&p.method, "method", "/inference.GRPCInferenceService/ModelInfer", "/package.Service/Method")
	flag.StringVar(&body, "body", "", "file with the request's bytes")
	flag.IntVar(&p.callers, "callers", 8, "requests at once")
	flag.IntVar(&p.conns, "connections", 0, "0: one for each caller")
	flag.Float64Var(&p.seconds, "seconds", 5, "that count")
	flag.Float64Var(&p.warm, "warm", 0.5, "seconds before those that count")
	flag.Float64Var(&p.rate, "rate", 0, "requests per second; 0: as fast as they are answered")
	flag.DurationVar(&p.timeout, "timeout", 0, "deadline of each request; 0: none")
	flag.StringVar(&p.header, "header", "", "metadata of each request: name=value")
	flag.Parse()
	data, err := os.ReadFile(body)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	p.body = data
	if p.conns <= 0 {
		p.conns = p.callers
	}
	return p
}

func dial(p plan) []*grpc.ClientConn {
	encoding.RegisterCodec(asBytes{})
	connections := make([]*grpc.ClientConn, p.conns)
	for i := range connections {
		most := grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<31-1), grpc.MaxCallSendMsgSize(1<<31-1))
		connection, err := grpc.NewClient(p.addr, grpc.WithTransportCredentials(insecure.NewCredentials()), most)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		connections[i] = connection
	}
	return connections
}

// schedule gives the times at which requests are due; nil in a closed loop.
func schedule(p plan, start time.Time) <-chan time.Time {
	if p.rate <= 0 {
		return nil
	}
	due := make(chan time.Time, 1<<20)
	go func() {
		defer close(due)
		step := time.Duration(float64(time.Second) / p.rate)
		for at := start; at.Before(p.end); at = at.Add(step) {
			time.Sleep(time.Until(at))
			due <- at
		}
	}()
	return due
}

func call(p plan, connection *grpc.ClientConn, due <-chan time.Time) tally {
	t := tally{errors: map[string]int{}}
	var answer []byte
	for {
		at := time.Now()
		if due != nil {
			next, ok := <-due
			if !ok {
				return t
			}
			at = next
		} else if !at.Before(p.end) {
			return t
		}
		err := once(p, connection, &answer)
		t.add(p, at, time.Now(), err)
	}
}

func once(p plan, connection *grpc.ClientConn, answer *[]byte) error {
	ctx := context.Background()
	if p.header != "" {
		for i := range p.header {
			if p.header[i] == '=' {
				ctx = metadata.AppendToOutgoingContext(ctx, p.header[:i], p.header[i+1:])
				break
			}
		}
	}
	if p.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.timeout)
		defer cancel()
	}
	return connection.Invoke(ctx, p.method, p.body, answer)
}

func (t *tally) add(p plan, at, now time.Time, err error) {
	if err != nil {
		t.errors[status.Code(err).String()]++
		t.example = err.Error()
		time.Sleep(time.Millisecond)
		return
	}
	if at.After(p.begin) {
		t.millis = append(t.millis, float64(now.Sub(at).Nanoseconds())/1e6)
	}
}

func sum(p plan, tallies []tally) Result {
	r := Result{Codes: map[string]int{}, Seconds: p.seconds}
	var all []float64
	for _, t := range tallies {
		all = append(all, t.millis...)
		for code, n := range t.errors {
			r.Codes[code] += n
			r.Errors += n
		}
		if t.example != "" {
			r.Example = t.example
		}
	}
	slices.Sort(all)
	r.Requests = len(all)
	if len(all) > 0 {
		r.PerSecond = float64(len(all)) / p.seconds
		at := func(share float64) float64 { return all[min(int(float64(len(all))*share), len(all)-1)] }
		r.P50, r.P90, r.P99, r.P999, r.Most = at(0.5), at(0.9), at(0.99), at(0.999), all[len(all)-1]
	}
	return r
}
