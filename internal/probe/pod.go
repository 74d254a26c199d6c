// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"path"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// AnnotationAsk asks a canary to dial: the kubelet shows it to the canary in a file.
const AnnotationAsk = "pcinetwork.dev/probe-ask"

const (
	askDirectory = "/asked"
	askFile      = "ask"
)

// Image is what canaries run.
type Image struct {
	Name       string
	PullPolicy corev1.PullPolicy
}

// Pod returns the pod of a canary. It is bound to its node as a DaemonSet's is, and tolerates every taint: what is denied on
// other nodes must be denied there, too.
func (s *Sample) Pod(c Canary, image Image) *corev1.Pod {
	name := s.Name(c)
	args := []string{Command, "--name=" + name, "--ask=" + path.Join(askDirectory, askFile), "--out=" + corev1.TerminationMessagePathDefault}
	for _, port := range s.Ports(c) {
		args = append(args, "--serve="+strconv.Itoa(int(port)))
	}
	for _, d := range s.Dials(c) {
		args = append(args, "--dial="+d.String())
	}
	for _, d := range s.Holds(c) {
		args = append(args, "--hold="+d.String())
	}
	for _, d := range s.Watches(c) {
		args = append(args, "--watch="+d.String())
	}
	few := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1m"), corev1.ResourceMemory: resource.MustParse("16Mi")}
	most := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("200m"), corev1.ResourceMemory: resource.MustParse("64Mi")}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: Namespace, Name: name,
			Labels: map[string]string{LabelRole: string(c.Role), LabelRun: s.Run},
		},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken:  new(false),
			EnableServiceLinks:            new(false),
			RestartPolicy:                 corev1.RestartPolicyNever,
			TerminationGracePeriodSeconds: new(int64(1)),
			Affinity:                      onNode(c.Node),
			Tolerations:                   []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), RunAsUser: new(int64(65532)), RunAsGroup: new(int64(65532)),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "canary", Image: image.Name, ImagePullPolicy: image.PullPolicy,
				Command: []string{"/pci-network-baseline"}, Args: args,
				Resources: corev1.ResourceRequirements{Requests: few, Limits: most},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
				VolumeMounts: []corev1.VolumeMount{{Name: "asked", MountPath: askDirectory, ReadOnly: true}},
			}},
			Volumes: []corev1.Volume{{Name: "asked", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{
				Items: []corev1.DownwardAPIVolumeFile{{
					Path: askFile, FieldRef: &corev1.ObjectFieldSelector{FieldPath: fmt.Sprintf("metadata.annotations['%s']", AnnotationAsk)},
				}},
			}}}},
		},
	}
}

// onNode binds to a node by name. The scheduler still says so if there is no room, which spec.nodeName would not.
func onNode(name string) *corev1.Affinity {
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchFields: []corev1.NodeSelectorRequirement{{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{name}}},
		}}},
	}}
}

// Phase is how far a canary is.
type Phase int

// The phases.
const (
	Starting Phase = iota
	Running
	Reported
	Lost
)

// Condition is what a canary's pod says of it.
type Condition struct {
	Phase Phase
	// Addresses and Hosts are the pod's and its node's, while it runs.
	Addresses, Hosts []netip.Addr
	// Report is what it reported.
	Report Report
	// Problem says why it does not start, or how it was lost.
	Problem Problem
}

// Observe reads the condition of a canary from its pod; nil when that is gone.
func Observe(pod *corev1.Pod, c Canary) Condition {
	lost := func(why string) Condition {
		return Condition{Phase: Lost, Problem: Problem{pcinetv1alpha1.ReasonCanaryLost, fmt.Sprintf("The canary on node %s is lost: %s.", c.Node, strings.TrimRight(why, ". "))}}
	}
	if pod == nil {
		return lost("its pod was deleted")
	}
	var container corev1.ContainerState
	if len(pod.Status.ContainerStatuses) > 0 {
		container = pod.Status.ContainerStatuses[0].State
	}
	ended := container.Terminated
	switch {
	case ended != nil && ended.ExitCode == 0:
		return reported(ended.Message, lost)
	case ended != nil && pod.Status.Reason == "":
		return lost(fmt.Sprintf("it exited with %d (%s) %s", ended.ExitCode, ended.Reason, ended.Message))
	case pod.Status.Phase == corev1.PodFailed, pod.Status.Phase == corev1.PodSucceeded:
		return lost(cmp.Or(pod.Status.Reason, string(pod.Status.Phase)) + " " + pod.Status.Message)
	case !pod.DeletionTimestamp.IsZero():
		return lost("its pod is being deleted")
	case container.Running != nil && len(pod.Status.PodIPs) > 0:
		out := Condition{Phase: Running}
		for _, ip := range pod.Status.PodIPs {
			out.Addresses = appendAddr(out.Addresses, ip.IP)
		}
		for _, ip := range pod.Status.HostIPs {
			out.Hosts = appendAddr(out.Hosts, ip.IP)
		}
		return out
	}
	return Condition{Problem: Problem{
		pcinetv1alpha1.ReasonCanaryNotStarted,
		fmt.Sprintf("The canary on node %s does not start: %s. Look at it: kubectl describe pods -n %s.", c.Node, strings.TrimRight(waiting(pod, container.Waiting), ". "), Namespace),
	}}
}

// reported reads a termination message.
func reported(message string, lost func(string) Condition) Condition {
	var r Report
	if err := json.Unmarshal([]byte(message), &r); err != nil {
		return lost("its report cannot be read")
	}
	if r.Error != "" {
		return lost(r.Error)
	}
	return Condition{Phase: Reported, Report: r}
}

// waiting says what a pod waits for.
func waiting(pod *corev1.Pod, state *corev1.ContainerStateWaiting) string {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return c.Reason + " " + c.Message
		}
	}
	switch {
	case state != nil && state.Message != "":
		return state.Reason + " " + state.Message
	case state != nil:
		return state.Reason
	case pod.Spec.NodeName == "":
		return "no scheduler has looked at it"
	}
	return "the kubelet has not looked at it"
}

func appendAddr(list []netip.Addr, text string) []netip.Addr {
	if a, err := netip.ParseAddr(text); err == nil {
		list = append(list, a)
	}
	return list
}
