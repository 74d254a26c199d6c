// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go4.org/netipx"

	"github.com/pcinetwork/pci-network-baseline/internal/checks"
	"github.com/pcinetwork/pci-network-baseline/internal/checks/management"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

func texts(list []netip.Prefix) (out []string) {
	for _, p := range list {
		out = append(out, p.String())
	}
	return out
}

var (
	eksCluster = snapshot.CloudCluster{Cloud: snapshot.EKS, Name: "prod", Location: "eu-central-1"}
	gkeCluster = snapshot.CloudCluster{Cloud: snapshot.GKE, Name: "main", Location: "europe-west3", Project: "shop"}
	aksCluster = snapshot.CloudCluster{Cloud: snapshot.AKS, Name: "prod", Subscription: "0f1e", ResourceGroup: "shop(eu)"}
)

func open(ranges ...string) snapshot.Entrance {
	return snapshot.Entrance{Name: "public endpoint", Gate: snapshot.Open, Ranges: prefixes(ranges...), Says: "as set"}
}

func unlimited() snapshot.Entrance {
	return snapshot.Entrance{Name: "public endpoint", Gate: snapshot.Open, Unlimited: true, Says: "as set"}
}

const (
	eksCommand = `aws eks update-cluster-config --region eu-central-1 --name prod --resources-vpc-config endpointPublicAccess=true,endpointPrivateAccess=true,publicAccessCidrs=`
	gkeCommand = `gcloud container clusters update main --project=shop --location=europe-west3 `
	aksCommand = `az aks update --subscription 0f1e --resource-group 'shop(eu)' --name prod `
)

func TestAllowedRangesAreComparedAsSets(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ranges, allowed []string
		surplus, keep   []string
	}{
		"the same":                              {[]string{"203.0.113.0/24"}, []string{"203.0.113.0/24"}, nil, nil},
		"narrower":                              {[]string{"203.0.113.0/26"}, []string{"203.0.113.0/24"}, nil, nil},
		"nobody":                                {nil, []string{"203.0.113.0/24"}, nil, nil},
		"two halves of one range":               {[]string{"203.0.113.0/25", "203.0.113.128/25"}, []string{"203.0.113.0/24"}, nil, nil},
		"one range of two that adjoin":          {[]string{"203.0.112.0/23"}, []string{"203.0.112.0/24", "203.0.113.0/24"}, nil, nil},
		"wider by a half":                       {[]string{"203.0.112.0/23"}, []string{"203.0.112.0/24"}, []string{"203.0.113.0/24"}, []string{"203.0.112.0/24"}},
		"wider around":                          {[]string{"203.0.113.0/24"}, []string{"203.0.113.64/26"}, []string{"203.0.113.0/26", "203.0.113.128/25"}, []string{"203.0.113.64/26"}},
		"one address more":                      {[]string{"203.0.113.0/24", "198.51.100.7/32"}, []string{"203.0.113.0/24"}, []string{"198.51.100.7/32"}, []string{"203.0.113.0/24"}},
		"somebody else altogether":              {[]string{"198.51.100.0/24"}, []string{"203.0.113.0/24", "192.0.2.0/24"}, []string{"198.51.100.0/24"}, []string{"192.0.2.0/24", "203.0.113.0/24"}},
		"IPv6, the same":                        {[]string{"2001:db8::/48"}, []string{"2001:db8::/32"}, nil, nil},
		"IPv6, wider":                           {[]string{"2001:db8::/31"}, []string{"2001:db8::/32"}, []string{"2001:db9::/32"}, []string{"2001:db8::/32"}},
		"IPv6 beside IPv4 that is allowed":      {[]string{"203.0.113.0/24", "2001:db8::/32"}, []string{"203.0.113.0/24"}, []string{"2001:db8::/32"}, []string{"203.0.113.0/24"}},
		"half of all addresses, twice":          {[]string{"0.0.0.0/1", "128.0.0.0/1"}, []string{"128.0.0.0/1"}, []string{"0.0.0.0/1"}, []string{"128.0.0.0/1"}},
		"overlapping ranges":                    {[]string{"10.0.0.0/8", "10.1.0.0/16"}, []string{"10.0.0.0/9"}, []string{"10.128.0.0/9"}, []string{"10.0.0.0/9"}},
		"allowed addresses of the other family": {[]string{"203.0.113.0/24"}, []string{"2001:db8::/32"}, []string{"203.0.113.0/24"}, []string{"2001:db8::/32"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := snapshot.ControlPlane{Cluster: eksCluster, Entrances: []snapshot.Entrance{open(c.ranges...)}}
			got := management.ControlPlaneRestricted(&p, prefixes(c.allowed...))
			if len(got) != 1 {
				t.Fatalf("%d judgements", len(got))
			}
			want := checks.Pass
			if len(c.surplus) > 0 {
				want = checks.Fail
			}
			if got[0].Result != want {
				t.Errorf("%s: %s", got[0].Result, got[0].Evidence)
			}
			if diff := cmp.Diff(c.surplus, texts(got[0].Surplus)); diff != "" {
				t.Errorf("surplus, -want +got:\n%s", diff)
			}
			for _, s := range c.surplus {
				if !strings.Contains(got[0].Evidence, s) && !strings.Contains(got[0].Evidence, "every IPv4 address") {
					t.Errorf("%q lacks %s", got[0].Evidence, s)
				}
			}
			remedy := ""
			if want == checks.Fail {
				remedy = eksCommand + `"` + strings.Join(c.keep, ",") + `"`
			}
			if got[0].Remedy != remedy {
				t.Errorf("remedy %s\nwant   %s", got[0].Remedy, remedy)
			}
		})
	}
}

func TestEntrancesAreJudged(t *testing.T) {
	t.Parallel()
	with := func(e snapshot.Entrance, change func(*snapshot.Entrance)) snapshot.Entrance {
		change(&e)
		return e
	}
	dns := snapshot.Entrance{Name: "DNS endpoint", Gate: snapshot.Open, Unlimited: true, Identity: "Google Cloud IAM", Says: "allowExternalTraffic=true"}
	run := snapshot.Entrance{Name: "run command", Gate: snapshot.Open, Unlimited: true, Identity: "Azure RBAC", Indirect: true}
	google := func(e *snapshot.Entrance) { e.Others = []string{"every public address of Google Cloud"} }
	object := snapshot.ControlPlane{Object: "HostedCluster clusters/prod"}
	none := []netip.Prefix{}
	for name, c := range map[string]struct {
		of               snapshot.ControlPlane
		entrance         snapshot.Entrance
		allowed          []netip.Prefix
		want             []checks.Result
		evidence, remedy string
	}{
		"shut":                             {snapshot.ControlPlane{Cluster: eksCluster}, snapshot.Entrance{Name: "x", Gate: snapshot.Shut, Ranges: prefixes("0.0.0.0/0")}, nil, []checks.Result{checks.Pass}, "is shut", ""},
		"not told":                         {snapshot.ControlPlane{Cluster: eksCluster}, snapshot.Entrance{Name: "x", Ranges: prefixes("203.0.113.0/24")}, nil, []checks.Result{"error"}, "not said", "attestation"},
		"everybody by EKS":                 {snapshot.ControlPlane{Cluster: eksCluster}, unlimited(), nil, []checks.Result{checks.Fail}, "every address", eksCommand + `"203.0.113.0/24,2001:db8::/32"`},
		"everybody by GKE":                 {snapshot.ControlPlane{Cluster: gkeCluster}, unlimited(), nil, []checks.Result{checks.Fail}, "every address", gkeCommand + "--enable-master-authorized-networks --master-authorized-networks=203.0.113.0/24,2001:db8::/32"},
		"everybody by AKS":                 {snapshot.ControlPlane{Cluster: aksCluster}, unlimited(), nil, []checks.Result{checks.Fail}, "every address", aksCommand + "--api-server-authorized-ip-ranges 203.0.113.0/24,2001:db8::/32"},
		"everybody by an object":           {object, with(unlimited(), func(e *snapshot.Entrance) { e.Field = "spec.x" }), nil, []checks.Result{checks.Fail}, "every address", "kubectl edit hostedcluster -n clusters prod, spec.x"},
		"everybody, without an allow-list": {snapshot.ControlPlane{Cluster: aksCluster}, unlimited(), none, []checks.Result{checks.Fail}, "every address", "Set spec.managementAccess.allowedCIDRs, then: " + aksCommand + "--api-server-authorized-ip-ranges ALLOWED_CIDRS"},
		"every IPv4 address":               {snapshot.ControlPlane{Cluster: eksCluster}, open("0.0.0.0/0"), nil, []checks.Result{checks.Fail}, "lets in every IPv4 address, which", eksCommand + `"203.0.113.0/24"`},
		"every address of both families":   {snapshot.ControlPlane{Cluster: eksCluster}, open("0.0.0.0/0", "::/0"), nil, []checks.Result{checks.Fail}, "lets in every IPv4 address, every IPv6 address, which", eksCommand + `"203.0.113.0/24,2001:db8::/32"`},
		"every IPv6 address and a range":   {snapshot.ControlPlane{Cluster: eksCluster}, open("192.0.2.0/24", "::/0"), nil, []checks.Result{checks.Fail}, "lets in every IPv6 address, 192.0.2.0/24, which", eksCommand + `"2001:db8::/32"`},
		"some, without an allow-list":      {snapshot.ControlPlane{Cluster: eksCluster}, open("203.0.113.0/24"), none, []checks.Result{"error"}, "203.0.113.0/24, and there is no allow-list", "Set spec.managementAccess.allowedCIDRs"},
		"a private network":                {snapshot.ControlPlane{Cluster: eksCluster}, with(unlimited(), func(e *snapshot.Entrance) { e.Private = true }), nil, []checks.Result{"error"}, "is not read", "attestation"},
		"a private network with a list":    {snapshot.ControlPlane{Cluster: gkeCluster}, with(open("203.0.113.0/24"), func(e *snapshot.Entrance) { e.Private = true }), nil, []checks.Result{checks.Pass}, "203.0.113.0/24", ""},
		"a name that IAM guards":           {snapshot.ControlPlane{Cluster: gkeCluster}, dns, nil, []checks.Result{checks.Fail}, "open to every address: Google Cloud IAM goes by who", gkeCommand + "--no-enable-dns-access"},
		"a command that RBAC guards":       {snapshot.ControlPlane{Cluster: aksCluster}, run, nil, []checks.Result{checks.Warn}, "Azure RBAC", aksCommand + "--disable-run-command"},
		"allowed addresses and a cloud":    {snapshot.ControlPlane{Cluster: gkeCluster}, with(open("203.0.113.0/24"), google), nil, []checks.Result{checks.Fail}, "lets in every public address of Google Cloud", "--master-authorized-networks=203.0.113.0/24 --no-enable-google-cloud-access"},
		"a surplus and a cloud":            {snapshot.ControlPlane{Cluster: gkeCluster}, with(open("192.0.2.0/24"), google), nil, []checks.Result{checks.Fail}, "lets in 192.0.2.0/24, and every public address of Google Cloud", "--no-enable-google-cloud-access"},
		"something that is not understood": {snapshot.ControlPlane{Cluster: eksCluster}, with(open("203.0.113.0/24"), func(e *snapshot.Entrance) { e.Unread = []string{`"office"`} }), nil, []checks.Result{"error"}, `"office"`, "attestation"},
		"a surplus beside something that is not understood": {
			snapshot.ControlPlane{Cluster: eksCluster}, with(open("192.0.2.0/24"), func(e *snapshot.Entrance) { e.Unread = []string{`"office"`} }), nil, []checks.Result{"error", checks.Fail}, `"office"`, "attestation",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			allowed := c.allowed
			if allowed == nil {
				allowed = prefixes("203.0.113.0/24", "2001:db8::/32")
			}
			c.of.Entrances = []snapshot.Entrance{c.entrance}
			got := management.ControlPlaneRestricted(&c.of, allowed)
			var results []checks.Result
			for _, j := range got {
				results = append(results, j.Result)
				if !strings.HasSuffix(j.Subject, ", "+c.entrance.Name) {
					t.Errorf("the subject is %q", j.Subject)
				}
			}
			if diff := cmp.Diff(c.want, results); diff != "" {
				t.Fatalf("-want +got:\n%s%v", diff, got)
			}
			if !strings.Contains(got[0].Evidence, c.evidence) || !strings.Contains(got[0].Remedy, c.remedy) || (c.remedy == "") != (got[0].Remedy == "") {
				t.Errorf("got %q\nremedy %q", got[0].Evidence, got[0].Remedy)
			}
		})
	}
}

func TestAFailureIsNeverAPass(t *testing.T) {
	t.Parallel()
	for _, failure := range []snapshot.Failure{
		snapshot.NotDeclared, snapshot.NoCredentials, snapshot.Denied, snapshot.NoSuchCluster, snapshot.Throttled, snapshot.Outage, snapshot.NotUnderstood,
	} {
		p := snapshot.ControlPlane{Cluster: eksCluster, Failure: failure, Problem: "why", Remedy: "what to do"}
		want := []management.Judgement{{Result: "error", Subject: "Who can reach the API server", Evidence: "why", Remedy: "what to do"}}
		if diff := cmp.Diff(want, management.ControlPlaneRestricted(&p, prefixes("203.0.113.0/24"))); diff != "" {
			t.Errorf("%s, -want +got:\n%s", failure, diff)
		}
	}
	p := snapshot.ControlPlane{Cluster: eksCluster}
	if got := management.ControlPlaneRestricted(&p, nil); len(got) != 1 || got[0].Result != "error" {
		t.Errorf("nothing said: %v", got)
	}
}

// TestCommandsOnlyTakeAway: whatever is let in and allowed, following the command lets in nobody who was not let in before, unless
// nothing would be left, and nobody who is not allowed.
func TestCommandsOnlyTakeAway(t *testing.T) {
	t.Parallel()
	choices := prefixes("10.0.0.0/8", "10.1.0.0/16", "10.1.128.0/17", "192.0.2.0/24", "192.0.2.0/25", "0.0.0.0/1", "0.0.0.0/0", "2001:db8::/32", "2001:db8::/33", "::/0")
	subset := func(bits int) (out []netip.Prefix) {
		for i, p := range choices {
			if bits>>i&1 == 1 {
				out = append(out, p)
			}
		}
		return out
	}
	set := func(list []netip.Prefix) *netipx.IPSet {
		var b netipx.IPSetBuilder
		for _, p := range list {
			b.AddPrefix(p)
		}
		s, err := b.IPSet()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	within := func(inner []netip.Prefix, outer *netipx.IPSet) bool {
		return !slices.ContainsFunc(inner, func(p netip.Prefix) bool { return !outer.ContainsPrefix(p) })
	}
	fails := 0
	for ranges := 1; ranges < 1<<len(choices); ranges += 7 {
		for allow := 1; allow < 1<<len(choices); allow += 13 {
			e := snapshot.Entrance{Name: "x", Gate: snapshot.Open, Ranges: subset(ranges)}
			p := snapshot.ControlPlane{Cluster: aksCluster, Entrances: []snapshot.Entrance{e}}
			j := management.ControlPlaneRestricted(&p, subset(allow))[0]
			allowed, let := set(subset(allow)), set(subset(ranges))
			if pass := within(subset(ranges), allowed); pass != (j.Result == checks.Pass) {
				t.Fatalf("%v within %v is %t, and the judgement %s", e.Ranges, subset(allow), pass, j.Result)
			}
			if j.Result == checks.Pass {
				continue
			}
			fails++
			_, list, _ := strings.Cut(j.Remedy, "--api-server-authorized-ip-ranges ")
			keep := prefixes(strings.Split(list, ",")...)
			if !within(keep, allowed) || (!within(keep, let) && let.OverlapsPrefix(keep[0])) {
				t.Fatalf("of %v with %v allowed is kept %v", e.Ranges, subset(allow), keep)
			}
			if !within(j.Surplus, let) || slices.ContainsFunc(j.Surplus, allowed.OverlapsPrefix) {
				t.Fatalf("of %v with %v allowed is over %v", e.Ranges, subset(allow), j.Surplus)
			}
		}
	}
	if fails < 1000 {
		t.Errorf("only %d surpluses", fails)
	}
}
