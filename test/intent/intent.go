// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package intent makes policy sets out of fuzzed values, for the fuzz targets of the backends.
package intent

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
)

// Values are what a fuzz target is given.
type Values struct {
	CIDR, Except         string
	Key, Operator, Value string
	First, Last          int32
	// Form chooses directions, protocol, and which selectors are unset.
	Form byte
}

// Set returns a set with one allowance of one rule, with a peer of each form, canonical as the plan makes it. Without a
// readable CIDR there is none of that form.
func (v Values) Set() policy.Set {
	selector := v.selector()
	rule := policy.Rule{
		Direction: v.directions()[0],
		Peers:     []policy.Peer{{Pods: &policy.PodPeer{Namespaces: v.unless(1, selector), Pods: v.unless(2, selector)}}},
		Ports:     []policy.Port{{Protocol: v.protocol(), First: v.First, Last: v.Last}},
	}
	if cidr, err := netip.ParsePrefix(v.CIDR); err == nil {
		peer := policy.Peer{CIDR: cidr}
		if except, err := netip.ParsePrefix(v.Except); err == nil {
			peer.Except = []netip.Prefix{except}
		}
		rule.Peers = append(rule.Peers, peer)
	}
	rule = rule.Canonical()
	s := policy.Set{Baseline: "pci", Namespace: "shop", Deny: policy.Policy{Name: "default-deny", Role: policy.Deny, Directions: v.directions()}}
	if len(rule.Peers) > 0 && len(rule.Ports) > 0 {
		s.Allowances = []policy.Policy{{Name: "allow-fuzz", Role: policy.Allowance, Pods: *selector, Rules: []policy.Rule{rule}}}
	}
	return s
}

// Guard returns a guard with the same selector.
func (v Values) Guard() policy.Guard {
	return policy.Guard{Baseline: "pci", Directions: v.directions(), Namespaces: *v.selector(), Except: []string{"kube-system", v.Value}}
}

func (v Values) selector() *metav1.LabelSelector {
	e := metav1.LabelSelectorRequirement{Key: v.Key, Operator: metav1.LabelSelectorOperator(v.Operator)}
	if e.Operator == metav1.LabelSelectorOpIn || e.Operator == metav1.LabelSelectorOpNotIn {
		e.Values = []string{v.Value, "x"}
	}
	out := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{e}}
	if v.Form&4 != 0 {
		out.MatchLabels = map[string]string{v.Key: v.Value}
	}
	return out
}

func (v Values) unless(bit byte, s *metav1.LabelSelector) *metav1.LabelSelector {
	if v.Form&bit != 0 {
		return nil
	}
	return s.DeepCopy()
}

func (v Values) directions() []policy.Direction {
	switch v.Form >> 3 % 3 {
	case 0:
		return []policy.Direction{policy.Ingress, policy.Egress}
	case 1:
		return []policy.Direction{policy.Egress}
	default:
		return []policy.Direction{policy.Ingress}
	}
}

func (v Values) protocol() policy.Protocol {
	return []policy.Protocol{policy.TCP, policy.UDP, "SCTP"}[v.Form>>5%3]
}

// Seeds are values with which to start: ranges of both families at their bounds, forms that APIs read differently, and
// every operator.
func Seeds() []Values {
	return []Values{
		{CIDR: "0.0.0.0/0", Except: "10.0.0.0/8", Key: "app", Operator: "In", Value: "a", First: 1, Last: 65535},
		{CIDR: "::/0", Except: "2001:db8::/32", Key: "app", Operator: "NotIn", Value: "a", First: 53, Last: 53, Form: 1},
		{CIDR: "::ffff:10.0.0.0/104", Key: "example.com/pci", Operator: "Exists", First: 443, Last: 443, Form: 2},
		{CIDR: "10.1.2.3/8", Except: "10.1.2.3/16", Key: "app", Operator: "DoesNotExist", First: 0, Last: 70000, Form: 3},
		{CIDR: "10.0.0.0/8", Except: "10.0.0.0/8", Key: "app", Operator: "In", Value: "", First: 65558, Last: 65558, Form: 8},
		{CIDR: "10.0.0.0/8", Except: "2001:db8::/32", Key: "has(x) || y", Operator: "In", Value: `"} || all() || app in {"`, First: 2, Last: 1, Form: 16},
		{CIDR: "192.0.2.7/32", Except: "x", Key: "io.kubernetes.pod.namespace", Operator: "NotIn", Value: "shop", First: 80, Last: 90, Form: 36},
		{CIDR: "fe80::1%eth0/64", Key: "app", Operator: "Gt", Value: "1", First: 1, Last: 1, Form: 255},
	}
}

// Parse reads values from lines in the order of the fields of Values. What is absent or no number is zero: a fuzz target takes
// any text.
func Parse(text string) Values {
	lines := append(strings.Split(text, "\n"), make([]string, 8)...)
	number := func(i int) int32 {
		n, err := strconv.ParseInt(lines[i], 10, 32)
		if err != nil {
			return 0
		}
		return int32(n)
	}
	return Values{
		CIDR: lines[0], Except: lines[1], Key: lines[2], Operator: lines[3], Value: lines[4],
		First: number(5), Last: number(6), Form: byte(number(7)),
	}
}

// Adder is a fuzz target.
type Adder interface{ Add(args ...any) }

// Seed adds the seeds to a target that takes a text for Parse.
func Seed(f Adder) {
	for _, v := range Seeds() {
		f.Add(fmt.Sprintf("%s\n%s\n%s\n%s\n%s\n%d\n%d\n%d", v.CIDR, v.Except, v.Key, v.Operator, v.Value, v.First, v.Last, v.Form))
	}
}
