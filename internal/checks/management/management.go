// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package management judges who can reach the interfaces by which the cluster is managed (4.2) and whether they are encrypted, with
// keys that rotate (4.3). All checks run: an assessor wants the whole list. What cannot be seen is never a pass.
package management

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/checks"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// The clauses.
const (
	Access     = "4.2"
	Encryption = "4.3"
)

// Finding is one clause judged of one subject.
type Finding struct {
	Check, Clause string
	Result        checks.Result
	// Reason is a reason of the API.
	Reason string
	// Subject is an object or an interface; Evidence is what was seen of it, and Remedy what to do, both without a full stop. None of
	// them changes while nothing does.
	Subject, Evidence, Remedy string
	// Properties are details for whoever reads reports; nil for most.
	Properties map[string]string
}

// Message names the subject, the cause and what to do.
func (f Finding) Message() string {
	text := strings.TrimPrefix(f.Subject+": "+f.Evidence+".", ": ")
	if f.Remedy != "" {
		text += " " + f.Remedy + "."
	}
	return text
}

// Subject is what is judged: the cluster, by what one baseline declares.
type Subject struct {
	snapshot.Management
	snapshot.ControlPlanes

	// Declared are spec.managementAccess and spec.managementEncryption; what is nil is not judged.
	Access     *pcinetv1alpha1.ManagementAccess
	Encryption *pcinetv1alpha1.ManagementEncryption
	// Rules are spec.allow.rules. EgressDenied says that pods in scope may connect to nobody else.
	Rules        []pcinetv1alpha1.AllowRule
	EgressDenied bool
	Now          time.Time
}

// check judges one clause.
type check struct {
	name, clause string
	judge        func(Subject, *verdicts)
}

// all are the checks, in the order of reporting: among equals the first names the condition's reason.
var all = []check{
	{"EverythingRead", Access, everythingRead},
	{"ControlPlaneRestricted", Access, controlPlaneRestricted},
	{"ConsolesRestricted", Access, consolesRestricted},
	{"APIServerPrivate", Access, apiServerPrivate},
	{"ClosedToPods", Access, closedToPods},
	{"ClosedToNodes", Access, closedToNodes},
	{"MetadataClosed", Access, metadataClosed},
	{"ClusterObjectsRestricted", Access, clusterObjectsRestricted},
	{"HostFirewall", Access, hostFirewall},
	{"AccessDeclared", Access, accessDeclared},
	{"EverythingRead", Encryption, everythingRead},
	{"InsecurePortsClosed", Encryption, insecurePortsClosed},
	{"TrafficEncrypted", Encryption, trafficEncrypted},
	{"StrongVersions", Encryption, strongVersions},
	{"CertificatesFit", Encryption, certificatesFit},
	{"TokenKeysFit", Encryption, tokenKeysFit},
	{KeysRotated, Encryption, keysRotated},
	{KeysRotated, Encryption, tokenKeysRotated},
	{"PeersVerified", Encryption, peersVerified},
	{"APIServerSettings", Encryption, apiServerSettings},
	{"KubeletSettings", Encryption, kubeletSettings},
	{"NodeTrafficEncrypted", Encryption, nodeTrafficEncrypted},
}

// Run runs every check of what is declared. The worst findings come first. Cost: about ten findings an interface, for a moment.
func Run(s Subject) []Finding {
	var out []Finding
	for _, c := range all {
		if (c.clause == Access && s.Access == nil) || (c.clause == Encryption && s.Encryption == nil) {
			continue
		}
		v := &verdicts{check: c}
		c.judge(s, v)
		out = append(out, v.list...)
	}
	slices.SortStableFunc(out, func(a, b Finding) int { return cmp.Compare(severity(a.Result), severity(b.Result)) })
	return out
}

// severity orders results, the worst first.
func severity(r checks.Result) int {
	return slices.Index([]checks.Result{checks.Fail, checks.Error, checks.Warn, checks.Skip, checks.Pass}, r)
}

// verdicts collects the findings of one check.
type verdicts struct {
	check

	list []Finding
}

func (v *verdicts) add(result checks.Result, reason, subject, evidence, remedy string) {
	v.list = append(v.list, Finding{
		Check: v.name, Clause: v.clause, Result: result, Reason: reason, Subject: subject, Evidence: evidence, Remedy: remedy,
	})
}

func (v *verdicts) fail(reason, subject, evidence, remedy string) {
	v.add(checks.Fail, reason, subject, evidence, remedy)
}

func (v *verdicts) warn(reason, subject, evidence, remedy string) {
	v.add(checks.Warn, reason, subject, evidence, remedy)
}

// unseen says that it could not be seen, which is neither good nor bad.
func (v *verdicts) unseen(subject, evidence, remedy string) {
	v.add(checks.Error, pcinetv1alpha1.ReasonManagementNotObservable, subject, evidence, remedy)
}

func (v *verdicts) pass(subject, evidence string) {
	v.add(checks.Pass, pcinetv1alpha1.ReasonTrafficEncrypted, subject, evidence, "")
}

func (v *verdicts) skip(subject, evidence string) {
	v.add(checks.Skip, pcinetv1alpha1.ReasonManagementNotObservable, subject, evidence, "")
}

// with adds properties to the last finding.
func (v *verdicts) with(properties map[string]string) {
	last := &v.list[len(v.list)-1]
	if last.Properties == nil {
		last.Properties = map[string]string{}
	}
	maps.Copy(last.Properties, properties)
}

// Name names an interface as the subjects of findings do.
func Name(i *snapshot.Interface) string { return name(i) }

// name names an interface: what it is, where, and by which object it was found.
func name(i *snapshot.Interface) string {
	what := string(i.Role)
	if i.System != "" {
		what = i.System
	}
	port := i.Address.String()
	if i.UDP {
		port += "/UDP"
	}
	return fmt.Sprintf("%s %s (%s)", what, port, i.Object)
}

// everythingRead: what could not be read may hold anything.
func everythingRead(s Subject, v *verdicts) {
	for _, g := range s.Gaps {
		switch {
		case g.Minor, g.Traffic && v.clause == Access:
			v.warn(pcinetv1alpha1.ReasonManagementNotObservable, g.What, g.Why, g.Remedy)
		default:
			v.unseen(g.What, g.Why, g.Remedy)
		}
	}
	if v.clause == Encryption {
		for _, d := range s.Encryption.SupportingSystems {
			if key := string(d.Namespace) + "/" + d.Service; slices.Contains(s.Absent, key) {
				v.unseen("Service "+key, "spec.managementEncryption.supportingSystems has it, and the list of Services does not", "Correct it, or take it out")
			}
		}
	}
}
