// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management_test

import "testing"

// agents has an agent of the network whose ports no Service has and no pod lists, then lets it listen: whether it is alive in the clear, which
// everybody may know, and metrics, which is another matter.
func (s *site) agents(t *testing.T) {
	t.Helper()
	s.place(t, `{apiVersion: apps/v1, kind: DaemonSet, metadata: {namespace: kube-system, name: kube-proxy}, spec: {
		selector: {matchLabels: {k8s-app: kube-proxy}}, template: {metadata: {labels: {k8s-app: kube-proxy}}, spec: {
		hostNetwork: true, automountServiceAccountToken: false, containers: [{name: kube-proxy, image: "nobodys/proxy:v1"}]}}}}`)
	plain(t, "10.0.0.2:10256")
	s.hour(t)
	s.await(t, "ManagementTrafficEncrypted=True/TrafficEncrypted")
	plain(t, "10.0.0.2:10249")
	s.hour(t)
	s.await(t, "ManagementTrafficEncrypted=False/Plaintext: kube-proxy's metrics 10.0.0.2:10249 (DaemonSet kube-system/kube-proxy): it answers in the clear. Turn it off in the network plugin's settings")
}
