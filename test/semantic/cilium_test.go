// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package semantic_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/cilium/cilium/pkg/crypto/certificatemanager"
	"github.com/cilium/cilium/pkg/endpoint/regeneration"
	envoypolicy "github.com/cilium/cilium/pkg/envoy/policy"
	"github.com/cilium/cilium/pkg/identity"
	"github.com/cilium/cilium/pkg/identity/identitymanager"
	ciliumv2 "github.com/cilium/cilium/pkg/k8s/apis/cilium.io/v2"
	ciliumlabels "github.com/cilium/cilium/pkg/labels"
	"github.com/cilium/cilium/pkg/option"
	ciliumpolicy "github.com/cilium/cilium/pkg/policy"
	"github.com/cilium/cilium/pkg/policy/api"
	"github.com/cilium/cilium/pkg/policy/types"
	policyutils "github.com/cilium/cilium/pkg/policy/utils"
	testpolicy "github.com/cilium/cilium/pkg/testutils/policy"
	"github.com/cilium/cilium/pkg/u8proto"
	"k8s.io/apimachinery/pkg/labels"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cilium"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

const ciliumCluster = "default"

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// configureCilium sets what an agent sets from its defaults, for a cluster of both families.
var configureCilium = sync.OnceFunc(func() {
	option.Config.EnableIPv4, option.Config.EnableIPv6 = true, true
	option.Config.EnableNonDefaultDenyPolicies = true
	ciliumpolicy.SetPolicyEnabled(option.DefaultEnforcement)
})

// loadCilium lets Cilium's agent read CiliumNetworkPolicies: they are decoded into its own types, pass its own validation,
// and are resolved to the map of identities and ports that its datapath would ask.
func loadCilium(w world, objects [][]byte) (func(packet) (bool, error), error) {
	configureCilium()
	var entries types.PolicyEntries
	for _, text := range objects {
		e, err := entriesOf(text)
		if err != nil {
			return nil, fmt.Errorf("%w in %s", err, text)
		}
		entries = append(entries, e...)
	}
	return newAgent(entries).asker(w), nil
}

// ciliumPolicy is either kind of policy.
type ciliumPolicy interface {
	Parse(logger *slog.Logger, cluster string) (api.Rules, error)
}

// entriesOf decodes a policy of either kind strictly into Cilium's own types, validates it, and returns its rules.
func entriesOf(text []byte) (types.PolicyEntries, error) {
	kind := struct {
		Kind string `json:"kind"`
	}{}
	if err := json.Unmarshal(text, &kind); err != nil {
		return nil, err
	}
	var parse ciliumPolicy = &ciliumv2.CiliumNetworkPolicy{}
	if kind.Kind == cilium.KindClusterwideNetworkPolicy {
		parse = &ciliumv2.CiliumClusterwideNetworkPolicy{}
	}
	if err := decodeStrict(text, parse); err != nil {
		return nil, err
	}
	rules, err := parse.Parse(quiet, ciliumCluster)
	if err != nil {
		return nil, err
	}
	return policyutils.RulesToPolicyEntries(rules), nil
}

// agent holds the policies of one node and the identities that it knows.
type agent struct {
	repo       *ciliumpolicy.Repository
	prefixes   []netip.Prefix // of all policies, longest first: an address has the identity of its longest
	identities map[string]*identity.Identity
	policies   map[identity.NumericIdentity]*ciliumpolicy.EndpointPolicy
}

func newAgent(entries types.PolicyEntries) *agent {
	a := &agent{identities: map[string]*identity.Identity{}, policies: map[identity.NumericIdentity]*ciliumpolicy.EndpointPolicy{}}
	a.repo = ciliumpolicy.NewPolicyRepository(quiet, nil, nil,
		envoypolicy.NewEnvoyL7RulesTranslator(quiet, certificatemanager.NewMockSecretManagerInline()),
		identitymanager.NewIDManager(quiet), testpolicy.NewPolicyMetricsNoop())
	known := identity.IdentityMap{}
	identity.IterateReservedIdentities(func(id identity.NumericIdentity, i *identity.Identity) { known[id] = i.Labels.LabelArray() })
	a.learn(known)
	a.prefixes = ciliumpolicy.GetCIDRPrefixes(entries)
	slices.SortFunc(a.prefixes, func(x, y netip.Prefix) int { return y.Bits() - x.Bits() })
	// All identities are learned before policies are resolved.
	for _, n := range namespaces {
		for _, l := range everyPodLabels {
			a.pod(n, l)
		}
	}
	for _, p := range a.prefixes {
		a.within(p)
	}
	a.repo.ReplaceByResource(entries, "policies")
	return a
}

func (a *agent) learn(ids identity.IdentityMap) {
	var done sync.WaitGroup
	a.repo.GetSelectorCache().UpdateIdentities(ids, nil, &done)
	a.repo.GetSubjectSelectorCache().UpdateIdentities(ids, nil, &done)
	done.Wait()
}

// identity returns the identity with the given labels.
func (a *agent) identity(scope identity.NumericIdentity, l ciliumlabels.Labels) *identity.Identity {
	key := string(l.SortedList())
	if id, ok := a.identities[key]; ok {
		return id
	}
	id := identity.NewIdentity(scope+identity.NumericIdentity(1000+len(a.identities)), l)
	a.identities[key] = id
	a.learn(identity.IdentityMap{id.ID: id.LabelArray})
	return id
}

// pod returns the identity of pods with these labels, as the agent gives it.
func (a *agent) pod(n snapshot.Namespace, pod labels.Set) *identity.Identity {
	all := map[string]string{}
	for k, v := range n.Labels {
		all["io.cilium.k8s.namespace.labels."+k] = v
	}
	maps.Copy(all, pod)
	all["io.kubernetes.pod.namespace"] = n.Name
	all["io.cilium.k8s.policy.cluster"] = ciliumCluster
	all["io.cilium.k8s.policy.serviceaccount"] = "default"
	return a.identity(identity.IdentityScopeGlobal, ciliumlabels.Map2Labels(all, ciliumlabels.LabelSourceK8s))
}

// within returns the identity of addresses of which p is the longest range.
func (a *agent) within(p netip.Prefix) *identity.Identity {
	return a.identity(identity.IdentityScopeLocal, ciliumlabels.GetCIDRLabels(p))
}

// beyond returns the identity of an address outside of the cluster: that of the longest range of any policy around it.
func (a *agent) beyond(addr netip.Addr) *identity.Identity {
	for _, p := range a.prefixes {
		if p.Contains(addr) && p.Bits() > 0 {
			return a.within(p)
		}
	}
	if addr.Is4() {
		return identity.LookupReservedIdentity(identity.ReservedIdentityWorldIPv4)
	}
	return identity.LookupReservedIdentity(identity.ReservedIdentityWorldIPv6)
}

func (a *agent) remote(r remote) *identity.Identity {
	switch r.place {
	case inPod:
		return a.pod(r.namespace, r.pod)
	case onNode:
		return identity.LookupReservedIdentity(identity.ReservedIdentityRemoteNode)
	case onOwnNode:
		return identity.LookupReservedIdentity(identity.ReservedIdentityHost)
	case apiServer:
		return identity.LookupReservedIdentity(identity.ReservedIdentityKubeAPIServer)
	default:
		return a.beyond(r.addr)
	}
}

// policy returns the resolved policy of a pod.
func (a *agent) policy(subject *identity.Identity) (*ciliumpolicy.EndpointPolicy, error) {
	if p, ok := a.policies[subject.ID]; ok {
		return p, nil
	}
	selected, _, err := a.repo.ComputeSelectorPolicy(subject)
	if err != nil {
		return nil, err
	}
	p := selected.DistillPolicy(quiet, owner{}, nil)
	if err := p.Ready(); err != nil {
		return nil, err
	}
	a.policies[subject.ID] = p
	return p, nil
}

func (a *agent) asker(w world) func(packet) (bool, error) {
	protocols := map[pcinetv1alpha1.Protocol]u8proto.U8proto{"TCP": u8proto.TCP, "UDP": u8proto.UDP, "SCTP": u8proto.SCTP}
	return func(p packet) (bool, error) {
		remote := a.remote(p.remote).ID
		policy, err := a.policy(a.pod(w.namespace, p.pod))
		if err != nil {
			return false, err
		}
		key := ciliumpolicy.EgressKey()
		if p.direction == pcinetv1alpha1.DirectionIngress {
			key = ciliumpolicy.IngressKey()
		}
		entry, _, _ := policy.Lookup(key.WithIdentity(remote).WithPortProto(protocols[p.protocol], uint16(p.port)))
		return !entry.IsDeny(), nil
	}
}

// owner is an endpoint without named ports.
type owner struct{}

func (owner) GetID() uint64                                      { return 1 }
func (owner) GetIngressNamedPort(string, u8proto.U8proto) uint16 { return 0 }
func (owner) PolicyDebug(string, ...any)                         {}
func (owner) IsHost() bool                                       { return false }
func (owner) PreviousMapStateSizes() ciliumpolicy.MapStateSizes  { return ciliumpolicy.MapStateSizes{} }

func (owner) RegenerateIfAlive(*regeneration.ExternalRegenerationMetadata) <-chan bool {
	done := make(chan bool)
	close(done)
	return done
}
