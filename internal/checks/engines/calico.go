// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

const calicoV3Group = "projectcalico.org"

var (
	calicoAPIService  = snapshot.Source{Kind: snapshot.KindAPIService, Name: "v3.projectcalico.org"}
	calicoInstalled   = snapshot.Source{Kind: snapshot.KindInstallation, Name: "default"}
	calicoMigrations  = snapshot.Source{Kind: snapshot.KindDatastoreMigration}
	kubeProxyConfig   = snapshot.Source{Kind: snapshot.KindConfigMap, Namespace: "kube-system", Name: "kube-proxy"}
	interfacePrefixes = map[string]string{baseCalico: "cali", baseFlannel: "cali", baseVPC: "eni", baseAzure: "azv", baseGKE: "gke"}
)

// calicoSource returns the source of one of Calico's kinds. Both groups serve the same objects while an API server of its
// own answers v3. On native v3 objects only those count: Calico runs so when the old group is gone or when it is told to.
func calicoSource(f *Found, kind, name string) snapshot.Source {
	s := snapshot.Source{Kind: kind, Name: name}
	if strings.HasPrefix(f.Agent.Env["CALICO_API_GROUP"], calicoV3Group) {
		s.Group = calicoV3Group
	}
	return s
}

func calicoReads(f *Found) []snapshot.Source {
	return []snapshot.Source{
		calicoAPIService, calicoInstalled, calicoMigrations, kubeProxyConfig,
		calicoSource(f, snapshot.KindFelixConfiguration, ""),
		calicoSource(f, snapshot.KindClusterInformation, "default"),
		calicoSource(f, snapshot.KindIPPool, ""),
		calicoSource(f, snapshot.KindHostEndpoint, ""),
	}
}

// felixValue is one setting of Felix, and where it comes from.
type felixValue struct{ value, from string }

// felix returns a setting as nodes have it: the environment of calico-node has the last word, then FelixConfiguration
// node.<name>, then default. An empty variable is unset.
func felix(f *Found, key string) []felixValue {
	variable := "FELIX_" + strings.ToUpper(key)
	for name, value := range f.Agent.Env {
		if strings.EqualFold(name, variable) && value != "" {
			return []felixValue{{value, "env " + name + " of " + f.DaemonSet.String()}}
		}
	}
	var out []felixValue
	for _, o := range f.objects(calicoSource(f, snapshot.KindFelixConfiguration, "")) {
		if value := field(&o, "spec", key); value != nil && (o.Name == "default" || strings.HasPrefix(o.Name, "node.")) {
			out = append(out, felixValue{fmt.Sprint(value), o.String()})
		}
	}
	return out
}

// felixCheck reports a value.
func felixCheck(key, bad string) func(*Found) []Finding {
	return func(f *Found) []Finding {
		var out []Finding
		for _, v := range felix(f, key) {
			if strings.EqualFold(v.value, bad) {
				out = append(out, Finding{Message: fmt.Sprintf("%s sets %s: %s.", v.from, key, v.value)})
			}
		}
		return out
	}
}

// calicoPrefix compares the prefix of interfaces that Felix takes for pods with what the network plugin makes.
func calicoPrefix(f *Found) []Finding {
	want := interfacePrefixes[calicoBase(f)]
	if want == "" {
		return nil
	}
	values := felix(f, "interfacePrefix")
	if len(values) == 0 {
		values = []felixValue{{"cali", f.DaemonSet.String() + " by default"}}
	}
	var out []Finding
	for _, v := range values {
		if !slices.ContainsFunc(strings.Split(v.value, ","), func(p string) bool { return strings.TrimSpace(p) == want }) {
			out = append(out, Finding{Message: fmt.Sprintf(
				"%s has the interface prefix %q, but interfaces of %s begin with %q (a weak signal): Calico may see no pod and enforce nothing. Set interfacePrefix to %s.",
				v.from, v.value, calicoBase(f), want, want)})
		}
	}
	return out
}

func calicoDatastore(f *Found) []Finding {
	for _, o := range f.objects(calicoSource(f, snapshot.KindClusterInformation, "default")) {
		if ready, given := field(&o, "spec", "datastoreReady").(bool); given && !ready {
			return []Finding{{Message: o.String() + " has datastoreReady: false, so Calico's agents enforce what they saw last, and new policies have no effect. " +
				"When the maintenance is over: calicoctl datastore migrate unlock."}}
		}
	}
	return nil
}

// migrating returns the migration that is under way, or nil.
func migrating(v *view) *snapshot.Object {
	objects := v.objects(calicoMigrations)
	for i := range objects {
		if slices.Contains([]string{"Pending", "Migrating", "WaitingForConflictResolution"}, text(field(&objects[i], "status", "phase"))) {
			return &objects[i]
		}
	}
	return nil
}

func calicoMigration(f *Found) []Finding {
	if o := migrating(f.view); o != nil {
		return []Finding{{Message: fmt.Sprintf("%s is %s: until it is over, new policies have no effect: kubectl get datastoremigrations -o yaml.",
			o, text(field(o, "status", "phase")))}}
	}
	return nil
}

func calicoEtcd(f *Found) []Finding {
	if strings.HasPrefix(f.Agent.Env["DATASTORE_TYPE"], "etcd") {
		return []Finding{{Message: fmt.Sprintf("%s keeps Calico's objects in an etcd of its own (env DATASTORE_TYPE): the API does not show its policies and settings.", f.DaemonSet)}}
	}
	return nil
}

// calicoDataplane compares Felix with kube-proxy: rules in a table that packets do not pass have no effect.
func calicoDataplane(f *Found) []Finding {
	data := f.configMap(kubeProxyConfig.Namespace, kubeProxyConfig.Name)
	var config struct {
		Mode string `json:"mode"`
	}
	if data == nil || yaml.Unmarshal([]byte(data["config.conf"]), &config) != nil || config.Mode == "" {
		return nil
	}
	bad := map[string]string{"nftables": "Disabled", "iptables": "Enabled"}[config.Mode]
	var out []Finding
	for _, v := range felix(f, "nftablesMode") {
		if bad != "" && strings.EqualFold(v.value, bad) {
			out = append(out, Finding{Message: fmt.Sprintf("%s sets nftablesMode: %s, but kube-proxy runs in mode %s (%s; a weak signal).", v.from, v.value, config.Mode, kubeProxyConfig)})
		}
	}
	return out
}

// calicoCNI is who connects the pods, as the operator's Installation says it: Calico, AmazonVPC, AzureVNET, GKE; or "".
func calicoCNI(v *view) string {
	for _, o := range v.objects(calicoInstalled) {
		return text(field(&o, "spec", "cni", "type"))
	}
	return ""
}

// calicoBase tells who connects the pods: the Installation, or the prefix of interfaces that calico-node is told.
func calicoBase(f *Found) string {
	if f.Base == baseFlannel {
		return baseFlannel
	}
	switch calicoCNI(f.view) {
	case "Calico":
		return baseCalico
	case "AmazonVPC":
		return baseVPC
	case "AzureVNET":
		return baseAzure
	case "GKE":
		return baseGKE
	}
	if policyOnly(f.Agent) {
		for base, prefix := range interfacePrefixes {
			if base != baseCalico && base != baseFlannel && f.Agent.Env["FELIX_INTERFACEPREFIX"] == prefix {
				return base
			}
		}
		return ""
	}
	return baseCalico
}

func policyOnly(agent *snapshot.Container) bool {
	return agent.Env["CALICO_NETWORKING_BACKEND"] == "none"
}

// calicoEncapsulation is that of the plugin below, or of the IP pools: one that is not direct everywhere makes an overlay.
func calicoEncapsulation(f *Found) snapshot.Encapsulation {
	switch base := calicoBase(f); base {
	case baseVPC, baseGKE:
		return snapshot.Direct
	case baseAzure:
		return azureEncapsulation(f)
	case baseFlannel:
		return flannelEncapsulation(f)
	}
	known := false
	for _, m := range calicoModes(f) {
		switch m {
		case "":
		case "Never", "None":
			known = true
		default:
			return snapshot.Overlay
		}
	}
	if known {
		return snapshot.Direct
	}
	return snapshot.UnknownEncapsulation
}

// calicoModes lists what the IP pools say; what the operator or the manifest would make of them while there are none.
func calicoModes(f *Found) []string {
	var modes []string
	for _, o := range f.objects(calicoSource(f, snapshot.KindIPPool, "")) {
		if disabled, _ := field(&o, "spec", "disabled").(bool); !disabled {
			modes = append(modes, text(field(&o, "spec", "ipipMode")), text(field(&o, "spec", "vxlanMode")))
		}
	}
	for _, o := range f.objects(calicoInstalled) {
		pools, _ := field(&o, "spec", "calicoNetwork", "ipPools").([]any)
		for _, pool := range pools {
			if m, ok := pool.(map[string]any); ok && len(modes) == 0 {
				modes = append(modes, text(m["encapsulation"]))
			}
		}
	}
	if len(modes) == 0 {
		modes = append(modes, f.Agent.Env["CALICO_IPV4POOL_IPIP"], f.Agent.Env["CALICO_IPV4POOL_VXLAN"])
	}
	return modes
}

// apis tells which policy APIs are served.
func apis(v *view) snapshot.PolicyAPIs {
	out := snapshot.PolicyAPIs{
		CiliumServed:         v.Has(ciliumPolicyCRD),
		CiliumClusterwide:    v.Has("ciliumclusterwidenetworkpolicies.cilium.io"),
		CalicoStaged:         v.Has("stagednetworkpolicies."+calicoV3Group) || v.Has("stagednetworkpolicies.crd.projectcalico.org"),
		ClusterNetworkPolicy: v.Has("clusternetworkpolicies.policy.networking.k8s.io"),
		CalicoMigrating:      migrating(v) != nil,
	}
	native := v.Has("networkpolicies." + calicoV3Group)
	for _, o := range v.objects(calicoAPIService) {
		out.CalicoServed = true
		_, out.CalicoAggregated = field(&o, "spec", "service").(map[string]any)
		conditions, _ := field(&o, "status", "conditions").([]any)
		for _, c := range conditions {
			if m, ok := c.(map[string]any); ok && m["type"] == "Available" {
				out.CalicoAvailable = m["status"] == "True"
			}
		}
	}
	out.CalicoGlobal = out.CalicoAggregated || v.Has("globalnetworkpolicies."+calicoV3Group)
	if native && !out.CalicoAggregated {
		out.CalicoServed, out.CalicoAvailable = true, true
	} else if !out.CalicoAggregated {
		out.CalicoServed, out.CalicoAvailable = false, false // an APIService that nothing stands behind yet
	}
	return out
}
