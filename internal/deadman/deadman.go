// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package deadman takes back a policy for nodes, unless somebody who can still reach the cluster ends it before, or goes on giving signs
// of life. It runs in the host's network of a node of the control plane, where its own API server is reached without leaving the node,
// and needs neither the operator nor anybody's clock but its own.
package deadman

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/internal/apply"
)

// Command is the argument that makes the operator's binary a dead man.
const Command = "dead-man"

const (
	// serverName is a name that every API server's certificate holds, by whatever address it is reached.
	serverName  = "kubernetes.default.svc"
	defaultPort = 6443
	// attempt bounds what one API server takes, so that one which is cut off does not keep it from the next.
	attempt = 3 * time.Second
	pause   = time.Second

	shortest, longest = 30 * time.Second, time.Hour
)

// kinds are those of policies for nodes, and after it the one in which an engine's own API server stores them. That server is a pod, which the policy may
// have cut off; the storage is the API server's.
var kinds = map[string][]schema.GroupVersionKind{
	"cilium": {{Group: "cilium.io", Version: "v2", Kind: "CiliumClusterwideNetworkPolicy"}},
	"calico": {
		{Group: "projectcalico.org", Version: "v3", Kind: "GlobalNetworkPolicy"},
		{Group: "crd.projectcalico.org", Version: "v1", Kind: "GlobalNetworkPolicy"},
	},
}

// Man takes one policy back.
type Man struct {
	// kinds are that of the policy, and those in which it is stored.
	kinds []schema.GroupVersionKind
	name  string
	// after is how long he waits for somebody to end him, by the machine's monotonic clock.
	after time.Duration
	// writers reach one API server each, the nearest first.
	writers []*apply.Applier
	// post is where he is on guard; empty if he is not.
	post post
}

// Options say whose policy he takes back, and when.
type Options struct {
	// Engine is cilium or calico, Policy the name of the policy.
	Engine, Policy string
	// After is for a man who waits once. One on guard does not heed it.
	After time.Duration
	// Guard is the namespace of the Leases of a man on guard, Node his node. Limit is how long the operator may be silent, and not less
	// than a second.
	Guard, Node string
	Limit       time.Duration
	// Round is how often a man on guard looks; every two seconds if it is zero.
	Round time.Duration
	// Servers are API servers to go to before the cluster's own address, the nearest first.
	Servers []netip.AddrPort
}

// Main arms a dead man as its arguments say. config says how to reach the API server by the cluster's own address.
func Main(ctx context.Context, args []string, config func(kubeconfig string) (*rest.Config, error)) error {
	order, err := parse(args)
	if err != nil {
		return err
	}
	base, err := config(order.kubeconfig)
	if err != nil {
		return err
	}
	man, err := New(base, order.Options)
	if err != nil {
		return err
	}
	if order.Guard != "" && !order.check {
		man.Guard(ctx) // armed or not: whoever comes back where the nearest API server has gone must still go to another
		return nil
	}
	if err := man.Check(ctx); err != nil || order.check {
		return err
	}
	return man.Wait(ctx)
}

// order is what the arguments say.
type order struct {
	Options

	kubeconfig string
	check      bool
}

func parse(args []string) (order, error) {
	o := order{Options: Options{After: 5 * time.Minute, Limit: 5 * time.Minute}}
	fs := flag.NewFlagSet(Command, flag.ContinueOnError)
	fs.StringVar(&o.Engine, "engine", "", "cilium or calico")
	fs.StringVar(&o.Policy, "policy", "", "`name` of the policy")
	fs.DurationVar(&o.After, "after", o.After, "how long to wait")
	fs.StringVar(&o.Guard, "guard", "", "be on guard, with the Leases of this `namespace`, in place of waiting once")
	fs.StringVar(&o.Node, "node", "", "`name` of the node of who is on guard")
	fs.DurationVar(&o.Limit, "limit", o.Limit, "how long the operator may be silent, for who is on guard")
	fs.StringVar(&o.kubeconfig, "kubeconfig", "", "`path` of a kubeconfig; without one, the pod's account")
	fs.BoolVar(&o.check, "check", false, "see whether it could do it, and end")
	fs.Func("server", "`ADDRESS` of an API server to go to first, with :PORT if that is not 6443; may be repeated", func(s string) error {
		server, err := netip.ParseAddrPort(s)
		if address, plain := netip.ParseAddr(s); plain == nil {
			server, err = netip.AddrPortFrom(address, defaultPort), nil
		}
		o.Servers = append(o.Servers, server)
		return err
	})
	if err := fs.Parse(args); err != nil {
		return order{}, err
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	switch {
	case fs.NArg() > 0:
		return order{}, errors.New("nothing but flags must be given")
	case given["guard"] && given["after"]:
		return order{}, errors.New("--guard and --after exclude each other")
	case given["guard"] != given["node"] || given["limit"] && !given["guard"]:
		return order{}, errors.New("--guard and --node go together, and --limit with them")
	case given["guard"] && (o.Guard == "" || o.Node == ""): // an empty namespace would make him wait once
		return order{}, errors.New("--guard and --node must not be empty")
	case min(o.After, o.Limit) < shortest || max(o.After, o.Limit) > longest:
		return order{}, fmt.Errorf("--after and --limit must be between %s and %s", shortest, longest)
	}
	return o, nil
}

// New returns a man who reaches each server, and the one of base at last.
func New(base *rest.Config, opts Options) (*Man, error) {
	m := &Man{kinds: kinds[opts.Engine], name: opts.Policy, after: opts.After}
	if len(m.kinds) == 0 || m.name == "" {
		return nil, errors.New("an engine, cilium or calico, and a policy must be given")
	}
	mapper := apimeta.NewDefaultRESTMapper(nil) // asks nobody
	for _, kind := range m.kinds {
		mapper.Add(kind, apimeta.RESTScopeRoot)
	}
	if opts.Guard != "" {
		if opts.Node == "" || opts.Limit < time.Second {
			return nil, errors.New("who is on guard must be given a node, and a limit of a second or more")
		}
		m.post = post{namespace: opts.Guard, node: opts.Node, limit: opts.Limit, round: cmp.Or(opts.Round, defaultRound)}
		mapper.Add(coordinationv1.SchemeGroupVersion.WithKind("Lease"), apimeta.RESTScopeNamespace)
	}
	configs := make([]*rest.Config, 0, len(opts.Servers)+1)
	for _, s := range opts.Servers {
		configs = append(configs, Toward(base, s))
	}
	for _, c := range append(configs, rest.CopyConfig(base)) {
		c.Timeout = attempt
		writer, err := client.New(c, client.Options{Mapper: mapper})
		if err != nil {
			return nil, err
		}
		m.writers = append(m.writers, &apply.Applier{Client: writer, Observe: func(client.Object, apply.Operation, error) {}})
	}
	return m, nil
}

// Toward returns base with one API server, by its address, in place of the cluster's own.
func Toward(base *rest.Config, server netip.AddrPort) *rest.Config {
	c := rest.CopyConfig(base)
	c.Host, c.ServerName = "https://"+server.String(), serverName
	return c
}

// policies returns the policy in each of its kinds.
func (m *Man) policies() []*metav1.PartialObjectMetadata {
	var out []*metav1.PartialObjectMetadata
	for _, kind := range m.kinds {
		p := &metav1.PartialObjectMetadata{}
		p.SetGroupVersionKind(kind)
		p.SetName(m.name)
		out = append(out, p)
	}
	return out
}

// rehearse asks one API server whether he may do it, in one kind or the other.
func (m *Man) rehearse(ctx context.Context, w *apply.Applier) error {
	return m.anyKind(ctx, func(ctx context.Context, p *metav1.PartialObjectMetadata) error {
		if p.GroupVersionKind() != m.kinds[0] {
			if _, err := m.read(ctx, w, p); err != nil {
				return err
			}
		}
		return w.Rehearse(ctx, p)
	})
}

// anyKind calls do for one kind after the other, each with a time of its own, until one is well.
func (m *Man) anyKind(ctx context.Context, do func(context.Context, *metav1.PartialObjectMetadata) error) error {
	var errs []error
	for _, p := range m.policies() {
		ctx, cancel := context.WithTimeout(ctx, attempt)
		err := do(ctx, p)
		cancel()
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Check asks every API server whether he may do it, with a delete that deletes nothing. He is armed only if the nearest one lets him:
// it is the one that he can count on. There he must see both Leases, too, if he is to be on guard.
func (m *Man) Check(ctx context.Context) error {
	for i, w := range m.writers {
		err := m.rehearse(ctx, w)
		if err != nil && i == 0 {
			return fmt.Errorf("not armed: %w", err)
		}
		if err != nil {
			slog.Warn("Another API server does not answer", "error", err.Error())
		}
	}
	if m.post.namespace == "" {
		return nil
	}
	for _, name := range []string{OperatorLease, PulseLease} {
		if _, err := m.lease(ctx, name); err != nil {
			return fmt.Errorf("not armed: %w", err)
		}
	}
	return nil
}

// Wait waits, and takes the policy back. Deleting his Job before is the sign of life; who is ended otherwise, as by a drained node, ends
// with an error, so that the kubelet or the Job brings him back.
func (m *Man) Wait(ctx context.Context) error {
	slog.Info("Armed", "kind", m.kinds[0].Kind, "policy", m.name, "after", m.after.String())
	select {
	case <-ctx.Done():
		return errors.New("ended before the time: the policy stays, until he is back")
	case <-time.After(m.after):
	}
	slog.Info("Nobody has ended me: taking the policy back")
	return m.untilGone(ctx)
}

// untilGone takes the policy back by one API server after the other, until one says that it is gone.
func (m *Man) untilGone(ctx context.Context) error {
	for {
		for _, w := range m.writers {
			gone, err := m.takeBack(ctx, w)
			if gone {
				slog.Info("The policy is gone")
				return nil
			}
			if err != nil {
				slog.Warn("Trying again", "error", err.Error())
			}
		}
		select {
		case <-ctx.Done():
			return errors.New("ended while the policy was still there")
		case <-time.After(pause):
		}
	}
}

// takeBack deletes the policy, if it is there: by its storage if it cannot by its kind, which alone says that it is gone.
func (m *Man) takeBack(ctx context.Context, w *apply.Applier) (gone bool, err error) {
	var failed error
	err = m.anyKind(ctx, func(ctx context.Context, p *metav1.PartialObjectMetadata) error {
		there, err := m.read(ctx, w, p)
		if there {
			err = w.End(ctx, p, nil)
		}
		gone = err == nil && !there
		failed = cmp.Or(failed, err)
		return err
	})
	return gone, cmp.Or(err, failed)
}

// read says whether a policy is there. That it is not counts only when an API server says so, and only of its kind: where Calico stores in the kind itself
// a storage of before may be left, and that it is empty proves nothing.
func (m *Man) read(ctx context.Context, w *apply.Applier, p *metav1.PartialObjectMetadata) (there bool, err error) {
	err = w.Client.Get(ctx, client.ObjectKeyFromObject(p), p)
	isAbsent := apierrors.IsNotFound(err) && !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse) // not: it has no such path
	if isAbsent && p.GroupVersionKind() == m.kinds[0] {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading the policy in %s: %w", p.GroupVersionKind().Group, err)
	}
	return true, nil
}
