// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

// requirements are those of PCI DSS v4.0.1 that a check supports, as docs/management.md lists them.
var requirements = map[string]string{
	"ConsolesRestricted":       "1.2.5, 1.3.1, 1.4.2",
	"HostFirewall":             "1.2.5, 1.3.1",
	"APIServerPrivate":         "1.4.2",
	"ClosedToPods":             "1.3.1",
	"ClosedToNodes":            "1.3.1",
	"MetadataClosed":           "1.3.2",
	"AccessDeclared":           "1.2.5, 1.4.2",
	"ControlPlaneRestricted":   "1.3.1, 1.4.2",
	"ClusterObjectsRestricted": "1.3.1, 1.4.2",
	"InsecurePortsClosed":      "2.2.4, 2.2.7",
	"TrafficEncrypted":         "2.2.7, 4.2.1",
	"StrongVersions":           "4.2.1, 12.3.3",
	"CertificatesFit":          "3.7.4, 4.2.1, 4.2.1.1",
	"TokenKeysFit":             "3.7.1",
	KeysRotated:                "3.7.4",
	"PeersVerified":            "4.2.1, 7.2.1",
	"APIServerSettings":        "2.2.7, 4.2.1, 7.2.1",
	"NodeTrafficEncrypted":     "2.2.7, 4.2.1",
	"KubeletSettings":          "2.2.7, 3.7.4, 7.2.1",
	"EverythingRead":           "",
}

// Requirements returns the requirements of PCI DSS v4.0.1 that a check supports, separated by commas.
func Requirements(check string) string { return requirements[check] }
