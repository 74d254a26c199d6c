// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"text/tabwriter"

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// Command is the argument that makes the operator's binary look from outside.
const Command = "reach"

const usage = `Usage: pci-network-baseline reach [flags]

Dials the interfaces by which a cluster is managed from where it runs, and says which answer although this
place is not on spec.managementAccess.allowedCIDRs. Nothing is sent but handshakes, and nothing is written
to the cluster.
It ends with 0 if none does, and with 1 otherwise.

  reach                                what the cluster's objects show, read with the usual kubeconfig
  reach --pods                         with the addresses of pods, where a route leads to them
  reach --target api.example.com:6443  these alone; no access to the cluster is needed
  reach --leave /dev/termination-log   from a node, for the operator, as config/management/vantage does

`

// settings are the flags.
type settings struct {
	kubeconfig, output, leave string
	from                      netip.Addr
	targets                   []string
	pods                      bool
}

// Main looks as its arguments say, and writes the report to out and progress to progress. It returns an error if something answers
// that should not, or could not be asked.
func Main(ctx context.Context, args []string, out, progress io.Writer) error {
	s, err := parse(args, progress)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	plan, err := s.plan(ctx)
	if err != nil {
		return err
	}
	if !s.from.IsValid() && len(plan.Targets) > 0 {
		if s.from, err = source(ctx, plan.Targets[len(plan.Targets)-1].Address); err != nil { // the last is the one that clients outside know
			return fmt.Errorf("this host's own address: %w; give --from", err)
		}
	}
	_, _ = fmt.Fprintf(progress, "Looking at %d interfaces from %s …\n", len(plan.Targets), s.from)
	report := Look(ctx, plan, s.from, clock.RealClock{})
	if err := errors.Join(ctx.Err(), report.write(out, s.output)); err != nil {
		return err
	}
	if s.leave != "" {
		return report.leave(s.leave)
	}
	return report.Err()
}

// leave writes what the operator reads. A pod's termination log exists before the pod does, and its directory cannot be written to.
func (r *Report) leave(path string) error {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("this host's own addresses: %w", err)
	}
	var own []netip.Addr
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own = append(own, p.Addr().Unmap())
		}
	}
	data, err := json.Marshal(r.Seen(own))
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

func parse(args []string, usageTo io.Writer) (settings, error) {
	s := settings{output: "table"}
	fs := flag.NewFlagSet(Command, flag.ContinueOnError)
	fs.SetOutput(usageTo)
	fs.Usage = func() {
		_, _ = io.WriteString(usageTo, usage)
		fs.PrintDefaults()
	}
	fs.StringVar(&s.kubeconfig, "kubeconfig", "", "`path` of a kubeconfig; unset goes by KUBECONFIG and ~/.kube/config")
	fs.Func("from", "`address` by which the cluster sees this host, if something translates it in between", func(text string) (err error) {
		s.from, err = netip.ParseAddr(text)
		return err
	})
	fs.Func("target", "`HOST:PORT` to look at; may be repeated", func(text string) error {
		s.targets = append(s.targets, text)
		return nil
	})
	fs.BoolVar(&s.pods, "pods", false, "look at pods by their own addresses, too; without a route they are somebody else's")
	fs.StringVar(&s.leave, "leave", "", "`path` of a file to leave what the operator reads, 4 KiB at most; then what answers is no error: it judges")
	fs.StringVar(&s.output, "output", s.output, "`format` of the report: table or json")
	if err := fs.Parse(args); err != nil {
		return s, err
	}
	if fs.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if s.output != "table" && s.output != "json" {
		return s, fmt.Errorf("--output=%s: table or json", s.output)
	}
	return s, nil
}

// plan is what is asked for, or what the cluster shows.
func (s *settings) plan(ctx context.Context) (Plan, error) {
	if len(s.targets) > 0 {
		var p Plan
		for _, t := range s.targets {
			if err := p.Target(ctx, t, "declared", "--target"); err != nil {
				return p, fmt.Errorf("--target %s: %w", t, err)
			}
		}
		return p, nil
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = s.kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return Plan{}, fmt.Errorf("client configuration: %w", err)
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), pcinetv1alpha1.AddToScheme(scheme)); err != nil {
		return Plan{}, err
	}
	reader, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return Plan{}, err
	}
	return PlanOf(ctx, reader, config.Host, s.pods)
}

func (r *Report) write(out io.Writer, format string) error {
	if format == "json" {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, err := fmt.Fprintln(t, "VERDICT\tADDRESS\tWHAT\tANSWER\tFOUND BY")
	for _, i := range r.Interfaces {
		_, e := fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", i.Verdict, i.Address, i.Role, i.Answer, i.Object)
		err = errors.Join(err, e)
	}
	for _, m := range r.Missing {
		_, e := fmt.Fprintf(t, "%s\t\t\t\t%s\n", Unknown, m)
		err = errors.Join(err, e)
	}
	return errors.Join(err, t.Flush())
}
