// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/utils/clock"
)

// Command is the argument that makes the operator's binary a canary.
const Command = "probe"

// Report is what a canary leaves in its termination message, of which Kubernetes keeps 4 KiB.
type Report struct {
	// Outcomes holds one letter for each dial, in order.
	Outcomes string `json:"outcomes,omitempty"`
	// Held holds one letter for each connection that was made before anybody asked: whether it still answers.
	Held string `json:"held,omitempty"`
	// Watched holds for each place that was watched from the start when it last answered, in milliseconds since then; -1 for never.
	Watched []int64 `json:"watched,omitempty"`
	// Error says why there are none.
	Error string `json:"error,omitempty"`
}

// Agent is one canary: it serves ports, dials when it is asked to, reports, and ends.
type Agent struct {
	// Name is what it answers with, beside what it was sent.
	Name string
	// Ports are served over TCP and UDP, on all addresses.
	Ports []int
	Dials []Dial
	// Holds are connections that it keeps until it is asked. Watches are places that it tries in its first moments.
	Holds, Watches []Dial
	// Ask is a file: as soon as it holds anything, the dials begin. Out is where the report goes.
	Ask, Out string
	// Pace is how long to wait between two dials to the same place, Timeout how long for an answer. Dials end when the last
	// three outcomes of each are equal, or after Patience.
	Pace, Timeout, Patience time.Duration
}

// askPeriod is how often an agent looks whether it was asked. The kubelet needs longer to tell it.
const askPeriod = 200 * time.Millisecond

// Main runs an agent as its arguments say.
func Main(ctx context.Context, args []string) error {
	a := &Agent{Pace: time.Second, Timeout: 900 * time.Millisecond, Patience: 15 * time.Second}
	fs := flag.NewFlagSet(Command, flag.ContinueOnError)
	fs.StringVar(&a.Name, "name", "", "what it answers with")
	fs.StringVar(&a.Ask, "ask", "", "`path` of the file that tells it to dial")
	fs.StringVar(&a.Out, "out", "", "`path` of its report")
	outside := fs.String("vantage", "", "`address` on which to listen outside of the cluster, such as 192.0.2.7:24310, and to dial for canaries; it takes no other flag")
	fs.Func("serve", "`port` to serve over TCP and UDP; may be repeated", func(s string) error {
		port, err := strconv.ParseUint(s, 10, 16)
		a.Ports = append(a.Ports, int(port))
		return err
	})
	for name, list := range map[string]*[]Dial{"dial": &a.Dials, "hold": &a.Holds, "watch": &a.Watches} {
		fs.Func(name, "`PROTOCOL/ADDRESS:PORT/NAME` to "+name+"; may be repeated", func(s string) error {
			d, err := ParseDial(s)
			*list = append(*list, d)
			return err
		})
	}
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *outside != "" && fs.NFlag() == 1 && fs.NArg() == 0 {
		return vantage(ctx, *outside)
	}
	if fs.NArg() > 0 || *outside != "" || a.Name == "" || a.Ask == "" || a.Out == "" {
		return errors.New("--name, --ask and --out must be given, and nothing but flags")
	}
	return a.Run(ctx)
}

// Run serves until it was asked and has reported, or ctx ends. What went wrong is part of the report.
func (a *Agent) Run(ctx context.Context) error {
	report := Report{}
	err := a.serve(ctx, func() error {
		asked := make(chan struct{})
		watched, held := a.watchAll(ctx), a.holdAll(ctx, asked)
		err := a.await(ctx)
		close(asked)
		report.Held, report.Watched = held(), watched()
		if err != nil {
			return err
		}
		report.Outcomes = a.observe(ctx)
		return ctx.Err()
	})
	if err != nil {
		report = Report{Error: err.Error()}
	}
	data, jsonErr := json.Marshal(report)
	if jsonErr != nil {
		return jsonErr
	}
	// A termination log exists before the container does, and its directory cannot be written to.
	return errors.Join(err, os.WriteFile(a.Out, data, 0o600))
}

// await waits until the agent is asked.
func (a *Agent) await(ctx context.Context) error {
	ticker := time.NewTicker(askPeriod)
	defer ticker.Stop()
	for {
		data, err := os.ReadFile(a.Ask)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("looking whether it was asked: %w", err)
		}
		if strings.TrimSpace(string(data)) != "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it ended before it was asked: %w", context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

// observe dials everything again and again until each outcome is stable, and returns one letter for each dial.
func (a *Agent) observe(ctx context.Context) string {
	c := clock.RealClock{}
	deadline := c.Now().Add(a.Patience)
	histories := make([]history, len(a.Dials))
	for {
		next := c.Now().Add(a.Pace)
		a.dialAll(ctx, histories)
		stable := true
		for i := range histories {
			stable = stable && histories[i].stable()
		}
		if stable || next.After(deadline) || ctx.Err() != nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(next.Sub(c.Now())):
		}
	}
	var out strings.Builder
	for i := range histories {
		out.WriteByte(byte(histories[i].outcome()))
	}
	return out.String()
}

// history is what came of the last dials to one place, the latest last.
type history []Outcome

// steady is how many equal outcomes in a row are stable: right after a pod has started, single dials may be lost.
const steady = 3

func (h history) stable() bool {
	if len(h) < steady {
		return false
	}
	last := h[len(h)-steady:]
	return last[0] == last[1] && last[1] == last[2]
}

func (h history) outcome() Outcome {
	switch {
	case h.stable():
		return h[len(h)-1]
	case slices.Contains(h[max(0, len(h)-steady):], Answered):
		return Sometimes
	}
	return Unstable
}
