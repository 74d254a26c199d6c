// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"fmt"
	"strings"
	"time"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// viewHolds is for how long what was seen from a node counts: config/management/vantage looks every hour.
const viewHolds = 3 * time.Hour

// behindNodes are the interfaces that nodes without an API server need not reach. Others they do need: agents of one network speak to each other,
// and those of konnectivity go to its server.
var behindNodes = []snapshot.Role{snapshot.RoleEtcd, snapshot.RoleKubelet, snapshot.RoleScheduler, snapshot.RoleControllerManager}

// closedToNodes (4.2; PCI DSS 1.3.1): interfaces that a node reaches whose address is not on the allow-list. What is on nodes and needs them is
// not known here, so it is for an assessor to see, and no verdict.
func closedToNodes(s Subject, v *verdicts) {
	if len(s.Access.AllowedCIDRs) == 0 {
		return
	}
	allowed, servers := allowedSet(s.Access), s.ServerAddresses()
	const reason = pcinetv1alpha1.ReasonManagementNotObservable
	for _, view := range timely(s) {
		subject := fmt.Sprintf("node %s (%s)", view.Node, view.From)
		switch {
		case s.Now.Sub(view.At) > viewHolds:
			v.warn(reason, subject, "what it reaches is not known any more: it looked last on "+view.At.Format(time.RFC3339), "See why no node looks: kubectl get cronjobs,pods -n pci-network-baseline-vantage")
		case view.Problem != "":
			v.warn(reason, subject, "what it reaches is not known: "+view.Problem, "See the log of its pod: kubectl get pods -n pci-network-baseline-vantage")
		case allowed.Contains(view.From):
			v.skip(subject, "spec.managementAccess.allowedCIDRs holds it")
		case servers[view.From]:
			v.skip(subject, "an API server is there, which reaches every kubelet")
		default:
			viewed(view, subject, v)
		}
	}
}

// timely returns the views that hold, or the last one of those that do not: a look may come from another node every time.
func timely(s Subject) []*snapshot.View {
	var out []*snapshot.View
	var last *snapshot.View
	for i := range s.Views {
		view := &s.Views[i]
		if s.Now.Sub(view.At) <= viewHolds {
			out = append(out, view)
		}
		if last == nil || view.At.After(last.At) {
			last = view
		}
	}
	if len(out) == 0 && last != nil {
		out = append(out, last)
	}
	return out
}

// viewed judges what answers a node.
func viewed(view *snapshot.View, subject string, v *verdicts) {
	if view.Seen.Missing > 0 {
		v.warn(pcinetv1alpha1.ReasonManagementNotObservable, subject, "not everything could be found or asked from there", "See the log of its pod: kubectl get pods -n pci-network-baseline-vantage")
	}
	for _, role := range behindNodes {
		a := view.Seen.Answers[role]
		if a.Looked == 0 {
			continue
		}
		every := "Every " + string(role) + ", from " + subject
		if a.Answered == 0 {
			v.skip(every, "none answers")
			continue
		}
		v.warn(pcinetv1alpha1.ReasonManagementNotObservable, every,
			fmt.Sprintf("%d of %d answer, and spec.managementAccess.allowedCIDRs does not hold that node: %s", a.Answered, a.Looked, first(a)),
			"Close it with a firewall on nodes, spec.managementAccess.hostFirewall, or see that what runs on that node may reach it")
	}
}

// first names the first that answer.
func first(a snapshot.Answers) string {
	var names []string
	for _, at := range a.Some {
		names = append(names, at.String())
	}
	text := strings.Join(names, ", ")
	if more := a.Answered - len(names); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
