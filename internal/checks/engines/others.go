// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

const (
	vpcController     = "enable-network-policy-controller"
	policyEndpointCRD = "policyendpoints.networking.k8s.aws"
	k3sArgs           = "k3s.io/node-args"
)

var (
	vpcConfig       = snapshot.Source{Kind: snapshot.KindConfigMap, Namespace: "kube-system", Name: "amazon-vpc-cni"}
	eksNodeClasses  = snapshot.Source{Kind: snapshot.KindNodeClass}
	openShiftConfig = snapshot.Source{Kind: snapshot.KindNetworkConfig, Name: "cluster"}
	openShiftSDN    = snapshot.Source{Kind: snapshot.KindNetworkOperator, Name: "cluster"}
)

func reads(sources ...snapshot.Source) func(*Found) []snapshot.Source {
	return func(*Found) []snapshot.Source { return sources }
}

// readsConfigMaps asks for ConfigMaps beside the agent.
func readsConfigMaps(names ...string) func(*Found) []snapshot.Source {
	return func(f *Found) []snapshot.Source {
		var out []snapshot.Source
		for _, name := range names {
			out = append(out, snapshot.Source{Kind: snapshot.KindConfigMap, Namespace: f.DaemonSet.Namespace, Name: name})
		}
		return out
	}
}

// flagCheck judges a boolean argument of the agent.
func flagCheck(flag string, unset, bad bool) func(*Found) []Finding {
	return func(f *Found) []Finding {
		value, given := f.Agent.Flags[flag]
		if !given {
			if unset == bad {
				return []Finding{{Message: fmt.Sprintf("%s: container %s has no argument --%s, which is then %t.", f.DaemonSet, f.Agent.Name, flag, unset)}}
			}
			return nil
		}
		isBad, err := isBool(bad)(value)
		switch {
		case err != nil:
			return []Finding{{Effect: Unsure, Reason: reasonUnreadable, Message: fmt.Sprintf("%s: container %s: --%s: %v.", f.DaemonSet, f.Agent.Name, flag, err)}}
		case isBad:
			return []Finding{{Message: fmt.Sprintf("%s: container %s runs with --%s=%s.", f.DaemonSet, f.Agent.Name, flag, value)}}
		}
		return nil
	}
}

// with adds what to do to every finding.
func with(check func(*Found) []Finding, remedy string) func(*Found) []Finding {
	return func(f *Found) []Finding {
		found := check(f)
		for i := range found {
			found[i].Message += " " + remedy
		}
		return found
	}
}

// vpcControllerOff judges the switch of the controller, which EKS runs out of sight.
func vpcControllerOff(f *Found) []Finding {
	if f.Readings[vpcConfig].Problem != "" {
		return nil // reported apart: what cannot be read is not known to be off
	}
	data := f.configMap(vpcConfig.Namespace, vpcConfig.Name)
	switch on, err := isBool(true)(data[vpcController]); {
	case data[vpcController] == "":
		return []Finding{{Message: fmt.Sprintf("%s does not set %s, so the controller is off.", vpcConfig, vpcController)}}
	case err != nil:
		return []Finding{{Effect: Unsure, Reason: reasonUnreadable, Message: fmt.Sprintf("%s: %s: %v.", vpcConfig, vpcController, err)}}
	case !on:
		return []Finding{{Message: fmt.Sprintf("%s sets %s: %q.", vpcConfig, vpcController, data[vpcController])}}
	}
	return nil
}

// vpcControllerAbsent looks for the kind that the controller creates when it starts.
func vpcControllerAbsent(f *Found) []Finding {
	if f.Has(policyEndpointCRD) || len(vpcControllerOff(f)) > 0 {
		return nil
	}
	return []Finding{{Message: fmt.Sprintf("%s is on in %s, but the CustomResourceDefinition %s, which the controller creates, does not exist. Does the platform version of the cluster have the controller?",
		vpcController, vpcConfig, policyEndpointCRD)}}
}

// vpcStandard: new pods are open until the first look, unless the mode is strict.
func vpcStandard(f *Found) []Finding {
	for _, c := range f.DaemonSet.Containers {
		if mode := c.Env["NETWORK_POLICY_ENFORCING_MODE"]; mode == "strict" {
			return nil
		}
	}
	return []Finding{{Message: fmt.Sprintf("%s enforces in standard mode: a new pod is open until its policies are applied. Set env NETWORK_POLICY_ENFORCING_MODE to strict.", f.DaemonSet)}}
}

// vpcSwitch looks for a variable that is set to true, in any container.
func vpcSwitch(name, means string) func(*Found) []Finding {
	return func(f *Found) []Finding {
		if !slices.ContainsFunc(f.DaemonSet.Containers, func(c snapshot.Container) bool { return c.Env[name] == "true" }) {
			return nil
		}
		return []Finding{{Message: fmt.Sprintf("%s sets env %s: %s", f.DaemonSet, name, means)}}
	}
}

// eksOpen: nodes of EKS Auto Mode start pods open, unless their class says otherwise.
func eksOpen(f *Found) []Finding {
	var out []Finding
	for _, o := range f.objects(eksNodeClasses) {
		if text(field(&o, "spec", "networkPolicy")) != "DefaultDeny" {
			out = append(out, Finding{Message: fmt.Sprintf("%s has not networkPolicy: DefaultDeny: a new pod is open until its policies are applied.", &o)})
		}
	}
	return out
}

// k3sServer is a server with the arguments that it was started with.
type k3sServer struct {
	node string
	args []string
}

// k3sServers returns every server, in the order of their nodes' names. k3s notes its arguments and the settings of its file on
// the node.
func k3sServers(v *view) (servers []k3sServer, problem string) {
	for i := range v.Nodes {
		n := &v.Nodes[i]
		raw, given := n.Annotations[k3sArgs]
		if !given {
			continue
		}
		var args []string
		if err := json.Unmarshal([]byte(raw), &args); err != nil {
			return nil, fmt.Sprintf("Node %s: annotation %s: %v.", n.Name, k3sArgs, err)
		}
		if len(args) > 0 && args[0] == "server" {
			servers = append(servers, k3sServer{n.Name, args})
		}
	}
	if len(servers) == 0 {
		return nil, fmt.Sprintf("No server has the annotation %s, so it is not known how k3s was started: kubectl get nodes -o yaml.", k3sArgs)
	}
	return servers, ""
}

// k3sFlag returns the value of a flag: the next argument, "true" if that is another flag, "" if it is not there.
func k3sFlag(args []string, flag string) string {
	for i, a := range args {
		name, value, joined := strings.Cut(strings.TrimLeft(a, "-"), "=")
		switch {
		case name != flag || !strings.HasPrefix(a, "-"):
		case joined:
			return value
		case i+1 < len(args) && !strings.HasPrefix(args[i+1], "-"):
			return args[i+1]
		default:
			return "true"
		}
	}
	return ""
}

func k3sPolicyOff(f *Found) []Finding {
	servers, problem := k3sServers(f.view)
	if problem != "" {
		return []Finding{{Effect: Unsure, Reason: reasonUnreadable, Message: problem}}
	}
	var off []string
	for _, s := range servers {
		if value := k3sFlag(s.args, "disable-network-policy"); value != "" && value != "false" {
			off = append(off, s.node)
		}
	}
	if len(off) == 0 {
		return nil
	}
	return []Finding{{Message: fmt.Sprintf("k3s was started with --disable-network-policy%s (annotation %s). Remove it from the servers' arguments or configuration, and restart them.",
		onNodes(off), k3sArgs)}}
}

func k3sIpset(*Found) []Finding {
	return []Finding{{Message: "k3s starts without its policy controller where ipset is missing, and nothing in the API shows that: test with a pod that must not reach another."}}
}

// k3sBackend returns Flannel's backend as the first server has it; "" when it is not known.
func k3sBackend(f *Found) string {
	servers, _ := k3sServers(f.view)
	if len(servers) == 0 {
		return ""
	}
	return cmp.Or(k3sFlag(servers[0].args, "flannel-backend"), "vxlan")
}

func k3sEncapsulation(f *Found) snapshot.Encapsulation {
	switch k3sBackend(f) {
	case "vxlan", "wireguard-native":
		return snapshot.Overlay
	case "host-gw":
		return snapshot.Direct
	}
	return snapshot.UnknownEncapsulation
}

func k3sBase(f *Found) string {
	if k3sBackend(f) == "none" {
		return ""
	}
	return baseFlannel
}

// flannelBackend is what Flannel's ConfigMap asks for, or what flanneld writes on nodes; "" when neither is there.
func flannelBackend(f *Found) string {
	for _, name := range flannelConfigs {
		var config struct {
			Backend struct{ Type string }
		}
		data := f.configMap(f.DaemonSet.Namespace, name)
		if data != nil && json.Unmarshal([]byte(data["net-conf.json"]), &config) == nil && config.Backend.Type != "" {
			return config.Backend.Type
		}
	}
	for i := range f.Nodes {
		if backend := f.Nodes[i].Annotations[flannelType]; backend != "" {
			return backend
		}
	}
	return ""
}

func flannelEncapsulation(f *Found) snapshot.Encapsulation {
	switch flannelBackend(f) {
	case "":
		return snapshot.UnknownEncapsulation
	case "host-gw", "alloc", "tencent-vpc":
		return snapshot.Direct
	}
	return snapshot.Overlay
}

var flannelConfigs = []string{"kube-flannel-cfg", "canal-config", "rke2-canal-config"}

// azureEncapsulation: nodes of an overlay carry a label; without it, both is possible.
func azureEncapsulation(f *Found) snapshot.Encapsulation {
	for i := range f.Nodes {
		if f.Nodes[i].Labels["kubernetes.azure.com/podnetwork-type"] == "overlay" {
			return snapshot.Overlay
		}
	}
	return snapshot.UnknownEncapsulation
}

func always(e snapshot.Encapsulation) func(*Found) snapshot.Encapsulation {
	return func(*Found) snapshot.Encapsulation { return e }
}

// antreaConfig reads one of the files in the ConfigMap.
func antreaConfig(f *Found, file string) (map[string]any, error) {
	data := f.configMap(f.DaemonSet.Namespace, "antrea-config")
	out := map[string]any{}
	if err := yaml.Unmarshal([]byte(data[file]), &out); err != nil {
		return nil, fmt.Errorf("ConfigMap %s/antrea-config: %s: %w", f.DaemonSet.Namespace, file, err)
	}
	return out, nil
}

func antreaGates(f *Found) []Finding {
	var out []Finding
	for _, file := range []string{"antrea-agent.conf", "antrea-controller.conf"} {
		config, err := antreaConfig(f, file)
		if err != nil {
			out = append(out, Finding{Effect: Unsure, Reason: reasonUnreadable, Message: err.Error() + "."})
			continue
		}
		gates, _ := config["featureGates"].(map[string]any)
		if on, given := gates["AntreaPolicy"].(bool); given && !on {
			out = append(out, Finding{Message: fmt.Sprintf("ConfigMap %s/antrea-config: %s turns the feature gate AntreaPolicy off: Antrea's own policies are ignored, NetworkPolicies are not.", f.DaemonSet.Namespace, file)})
		}
	}
	return out
}

func antreaEncapsulation(f *Found) snapshot.Encapsulation {
	config, err := antreaConfig(f, "antrea-agent.conf")
	if err != nil {
		return snapshot.UnknownEncapsulation
	}
	switch strings.ToLower(text(config["trafficEncapMode"])) {
	case "", "encap", "hybrid":
		return snapshot.Overlay
	case "noencap", "networkpolicyonly":
		return snapshot.Direct
	}
	return snapshot.UnknownEncapsulation
}

func kubeRouterEncapsulation(f *Found) snapshot.Encapsulation {
	if f.Agent.Flags["enable-overlay"] == "false" {
		return snapshot.Direct
	}
	return snapshot.Overlay
}

// kindnetdDate is the tag of kind's own kindnetd. The first build with policies is that of kind v0.24.0.
var kindnetdDate = regexp.MustCompile(`^v(\d{8})`)

const kindnetdWithPolicy = "20240813"

// runs says whether a container has an image of that path.
func runs(d *snapshot.DaemonSet, path string) bool {
	return slices.ContainsFunc(d.Containers, func(c snapshot.Container) bool { return imageIs(c.Image, []string{path}) })
}

// kindnetdEnforces says whether kind's kindnetd is new enough; of a tag without a date it is not known.
func kindnetdEnforces(d *snapshot.DaemonSet) (enforces, known bool) {
	for _, c := range d.Containers {
		if _, tag := splitImage(c.Image); imageIs(c.Image, []string{"kindest/kindnetd"}) {
			if m := kindnetdDate.FindStringSubmatch(tag); m != nil {
				return m[1] >= kindnetdWithPolicy, true
			}
		}
	}
	return false, false
}

func azureNPMLarge(f *Found) []Finding {
	const limit = 250
	out := []Finding{{Message: "When a pod of azure-npm restarts, it takes all rules away and adds them again: its node is open meanwhile."}}
	if len(f.Nodes) > limit {
		out = append(out, Finding{Message: fmt.Sprintf("Azure NPM is supported up to %d nodes, and there are %d.", limit, len(f.Nodes))})
	}
	return out
}

func weaveOff(f *Found) []Finding {
	for _, c := range f.DaemonSet.Containers {
		if value, given := c.Env["EXPECT_NPC"]; given && value == "0" {
			return []Finding{{Message: fmt.Sprintf("%s: container %s has env EXPECT_NPC=0, so that Weave Net does not wait for policies and none is enforced. Remove it: kubectl edit daemonset -n %s %s.",
				f.DaemonSet, c.Name, f.DaemonSet.Namespace, f.DaemonSet.Name)}}
		}
	}
	return nil
}

// openShiftMode: only one of the three modes of OpenShift SDN reads NetworkPolicies; it is the default.
func openShiftMode(f *Found) []Finding {
	for _, o := range f.objects(openShiftSDN) {
		switch mode := text(field(&o, "spec", "defaultNetwork", "openshiftSDNConfig", "mode")); mode {
		case "", "NetworkPolicy":
		default:
			return []Finding{{Message: fmt.Sprintf("%s sets spec.defaultNetwork.openshiftSDNConfig.mode: %s, which ignores NetworkPolicies. Set it to NetworkPolicy: kubectl edit %s cluster.", &o, mode, snapshot.KindNetworkOperator)}}
		}
	}
	return nil
}
