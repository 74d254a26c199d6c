// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"fmt"
	"strings"
)

// fullExamples give every field of a kind a valid value and every operator of a selector a use. Lists are not in
// alphabetical order, and sets and maps have two items.
var fullExamples = map[string]string{
	"PCINetworkBaseline": `
metadata: {name: full}
spec:
  enforcement: Audit
  namespaces:
    selector: &selector
      matchLabels: {team: shop}
      matchExpressions:
        - {key: example.com/tier, operator: In, values: [web, db]}
        - {key: stage, operator: NotIn, values: [sandbox]}
        - {key: shop.example.com/pci, operator: Exists}
        - {key: temporary, operator: DoesNotExist}
    exclude: [sandbox, playground]
    system: Include
  directions: [Egress, Ingress]
  backend: NetworkPolicy
  guardLayer: Auto
  admission: {podGate: Warn, tamperGuard: "Off"}
  allow:
    dns: None
    kubeAPIServer:
      - {name: operators, namespaceSelector: *selector, podSelector: *selector}
      - {name: monitoring, podSelector: {}}
    rules:
      - name: payments-db
        justification: The shop stores orders in the payment database.
        direction: Egress
        subject: {namespaceSelector: *selector, podSelector: *selector}
        peers:
          - {cidr: 10.0.0.0/8, except: [10.9.0.0/16, 10.8.0.0/16]}
          - {namespaceSelector: *selector, podSelector: *selector}
        ports:
          - {protocol: TCP, port: 5432, endPort: 5439}
          - {protocol: UDP, port: 4433}
      - name: ingress-controller
        justification: Customers reach the shop through the ingress controller.
        direction: Ingress
        peers: [{namespaceSelector: {}}]
        ports: [{protocol: SCTP, port: 8443}]
  exemptions:
    - namespaces: [legacy-shop, legacy-billing]
      reason: Its appliance answers on random ports until it is replaced.
      approvedBy: ciso@example.com
      expiresAt: "2030-06-30T22:00:00Z"
      ticket: SEC-1234
  verification: {intervalSeconds: 60, freshnessSeconds: 2592000, nodes: 4, vantage: {address: "2001:db8::7", port: 4243}}
  review: {reviewedAt: "2026-07-01T09:00:00+02:00", reviewedBy: network-team}
  managementAccess:
    allowedCIDRs:
      - {cidr: 192.0.2.0/24, name: office-berlin, justification: Administrators work there (CHG-2041).}
      - {cidr: 198.51.100.7/32, name: bastion, justification: Administrators come in through it.}
    hostFirewall: Audit
    loadBalancerCIDRs: [192.0.2.0/28, 198.51.100.7/32]
    attestation:
      by: network-team
      at: "2030-01-01T00:00:00Z"
      until: "2030-06-30T00:00:00Z"
      evidence: https://wiki.example.com/firewall/2030-01
    cloud: {provider: AKS, name: prod, subscriptionID: 0f1e2d3c-4b5a-4697-8877-665544332211, resourceGroup: shop(eu)}
  managementEncryption:
    minimumTLSVersion: "1.3"
    maxCertificateAgeDays: 366
    certificateNoticeDays: 14
    supportingSystems:
      - {namespace: shop, service: orders-log}
      - {namespace: billing, service: audit}
  deletionPolicy: Delete
status:
  observedGeneration: 3
  covered: 18/20
  backend: NetworkPolicy
  namespaces: {selected: 20, protected: 18, pending: 1, exempt: 2, contested: 0, failing: 1}
  systemNamespaces: [kube-system, kube-public]
  proof:
    proven: 2
    disproven: 1
    required: 3
    lastRoundAt: "2026-11-25T10:00:00Z"
    oldestAt: "2026-11-25T09:00:00Z"
    startWindowMilliseconds: 120
    olderPods: {count: 4, names: [shop/cart-5d8f, shop/web-0, shop/web-1]}
    establishedConnections: Kept
  platform:
    engine: Calico
    version: v3.31.0
    baseCNI: Amazon VPC CNI
    encapsulation: Direct
    provider: EKS
    nodes: {ready: 2, total: 3}
    signals: ["DaemonSet calico-system/calico-node: container calico-node"]
    warnings: ["1 nodes are Windows: their pods are outside the policy engine."]
  admission:
    state: Missing
    message: pcinb-pod-gate cannot be written.
    breakGlass: {until: "2026-11-25T09:00:00Z", reason: CHG-2041}
  guard: {resource: globalnetworkpolicies.projectcalico.org, state: InPlace, message: Hosts are outside of it.}
  offenders:
    - {namespace: shop, state: Failing, reason: Forbidden, message: The operator may not write policies here.}
    - {subject: kubelet 192.0.2.7:10255 (Node n1), reason: Plaintext, message: It answers in the clear.}
  conditions:
    - &condition
      type: Ready
      status: "False"
      reason: Forbidden
      message: Namespace shop failed.
      observedGeneration: 3
      lastTransitionTime: "2026-07-01T09:00:00Z"
    - {<<: *condition, type: Contested}
`,
	"NamespaceCoverage": `
metadata: {name: full, namespace: default}
status:
  conditions:
    - &condition
      type: Ready
      status: "True"
      reason: NamespaceProtected
      message: All 2 policies are in place.
      observedGeneration: 3
      lastTransitionTime: "2026-07-01T09:00:00Z"
    - {<<: *condition, type: Contested}
  baselineGeneration: 3
  namespaceUID: b1a3
  state: Protected
  enforcement: Enforce
  backend: NetworkPolicy
  policies:
    - {name: pcinb-full-default-deny, resource: networkpolicies.networking.k8s.io, role: Deny, state: InPlace, uid: b1a2, message: It matches.}
    - {name: pcinb-full-allow-dns, resource: networkpolicies.networking.k8s.io, role: Allowance, state: Drifted}
  omitted:
    - {name: dns, reason: DNSNotFound, message: There is no Service kube-system/kube-dns.}
    - {name: payments-db, reason: InvalidSpec}
  widening: [{name: allow-all, directions: [Ingress, Egress], message: It admits everybody to every pod.}]
  uncoveredPods: {count: 1, names: [node-exporter-x7k2p]}
  exemption:
    namespaces: [legacy-shop, legacy-billing]
    reason: Its appliance answers on random ports until it is replaced.
    approvedBy: ciso@example.com
    expiresAt: "2030-06-30T22:00:00Z"
    ticket: SEC-1234
`,
}

// otherCloud has the fields that exclude those of the full example.
const otherCloud = `{provider: GKE, name: main, location: europe-west3, project: shop-prod}`

// furtherExamples are valid specs for the limits that cannot be reached by stretching the full example.
var furtherExamples = map[string][]string{"PCINetworkBaseline": {
	peers(`[{cidr: "::/0", except: ["::/1"]}]`),
	peers(`[{cidr: "2001:0db8:0000:0000:0000:0000:0000:0000/127", except: ["2001:0db8:0000:0000:0000:0000:0000:0000/128"]}]`),
	`{verification: {vantage: {address: "1::"}}}`,
	`{verification: {vantage: {address: "2001:1db8:1111:1111:1111:1111:1111:1111"}}}`,
	peers(`[{cidr: 10.0.0.0/8, except: [` + sixteenRanges() + `]}]`),
	`{managementAccess: {allowedCIDRs: [` + strings.Join(sixtyFourRanges(), ", ") + `]}}`,
	`{managementAccess: {loadBalancerCIDRs: [` + sixteenRanges() + `]}}`,
	`{managementAccess: {loadBalancerCIDRs: ["::/1", "2001:0db8:0000:0000:0000:0000:0000:0000/128"]}}`,
	`{managementAccess: {attestation: {by: x, at: "2030-01-01T00:00:00Z", until: "2030-02-01T00:00:00Z", evidence: "https://a/` + strings.Repeat("a", 502) + `"}}}`,
	`{managementAccess: {cloud: {provider: GKE, name: main, location: europe-west3-a, project: "example.com:shop"}}}`,
	`{managementAccess: {cloud: {provider: EKS, name: "` + strings.Repeat("a", 100) + `", location: eu-` + strings.Repeat("a", 38) + `}}}`,
	`{managementAccess: {cloud: {provider: AKS, name: a, resourceGroup: "` + strings.Repeat("a", 90) + `"}}}`,
	`{managementAccess: {cloud: {provider: Auto}}}`,
	`{managementAccess: {cloud: {provider: None}}}`,
	`{managementAccess: {cloud: {provider: GKE, name: a, location: aa, project: aaa}}}`,
	`{managementAccess: {cloud: {provider: GKE, project: "` + strings.Repeat("a", 63) + ":" + strings.Repeat("a", 63) + `"}}}`,
	allowed(`"::/1"`), allowed(`"2001:0db8:0000:0000:0000:0000:0000:0000/128"`),
	`{managementEncryption: {maxCertificateAgeDays: 2, certificateNoticeDays: 1}}`,
	`{allow: {rules: [` + egress("shop", `[{cidr: 10.0.0.0/8}]`, `[{protocol: TCP, port: 1, endPort: 1}, {protocol: TCP, port: 65535}]`) + `]}}`,
}}

func peers(list string) string { return `{allow: {rules: [` + egress("shop", list, https) + `]}}` }

func allowed(cidr string) string {
	return `{managementAccess: {allowedCIDRs: [` + rangeOf(cidr) + `]}}`
}

func rangeOf(cidr string) string {
	return `{cidr: ` + cidr + `, name: x, justification: It is for an example.}`
}

func sixtyFourRanges() (ranges []string) {
	for i := range 64 {
		ranges = append(ranges, rangeOf(fmt.Sprintf("10.%d.0.0/16", i)))
	}
	return ranges
}

const https = `[{protocol: TCP, port: 443}]`

func egress(name, peers, ports string) string {
	return `{name: ` + name + `, justification: It is for an example., direction: Egress, peers: ` + peers + `, ports: ` + ports + `}`
}

func sixteenRanges() string {
	var ranges []string
	for i := range 16 {
		ranges = append(ranges, fmt.Sprintf("10.%d.0.0/16", i))
	}
	return strings.Join(ranges, ", ")
}

type examples struct{ good, bad []string }

var (
	dnsLabels = []string{`Shop`, `shop.prod`, `-shop`, `shop-`, `shop_prod`, `"shop\n"`}
	blanks    = []string{`" "`, `"\t\n"`}
	moments   = examples{
		good: []string{`"2020-01-01T00:00:00Z"`, `"2099-12-31T23:59:59.9Z"`, `"2030-01-01T00:00:00-08:00"`, `"2030-01-01T00:00:00+24:00"`},
		bad: []string{
			`"0001-01-01T00:00:00Z"`, `"2019-12-31T23:59:59Z"`, `"2100-01-01T00:00:00Z"`, `"9999-12-31T23:59:59-01:00"`,
			// Valid by RFC 3339 and the format, but Go cannot read them, and one would keep the operator from listing any baseline.
			`"2030-01-01t00:00:00Z"`, `"2030-01-01T00:00:00z"`,
		},
	}
)

// celExamples are values that keep and break each validation in CEL, by its message. Each is put wherever the message
// stands in a schema.
var celExamples = map[string]examples{
	"metadata.name must be a DNS label of at most 48 characters (lower case letters, digits and '-'; no dots): it becomes part of policy names": {
		good: []string{`{metadata: {name: a}}`, `{metadata: {name: ` + strings.Repeat("a", 48) + `}}`},
		bad:  []string{`{metadata: {name: a.b}}`, `{metadata: {name: ` + strings.Repeat("a", 49) + `}}`},
	},
	"metadata.name must neither contain '-allow-' nor end in '-allow': the policies of two baselines could get one name": {
		good: []string{`{metadata: {name: allow}}`, `{metadata: {name: allow-listed}}`, `{metadata: {name: shop-allowed}}`},
		bad:  []string{`{metadata: {name: shop-allow}}`, `{metadata: {name: shop-allow-dns}}`},
	},
	"directions: list each direction once": {
		good: []string{`[Egress, Ingress]`, `[Ingress, Egress]`},
		bad:  []string{`[Egress, Egress]`},
	},
	"a rule's direction must be one of spec.directions; add the direction there or remove the rule (a rule in a direction that is not denied would isolate pods instead of opening a hole)": {
		good: []string{`{directions: [Egress], ` + peers(`[{cidr: 10.0.0.0/8}]`)[1:], peers(`[{cidr: 10.0.0.0/8}]`)},
		bad:  []string{`{directions: [Ingress], ` + peers(`[{cidr: 10.0.0.0/8}]`)[1:]},
	},
	"allow.kubeAPIServer needs Egress in spec.directions; add it there or remove the entries": {
		good: []string{
			`{allow: {kubeAPIServer: [{name: operators, podSelector: {}}]}}`,
			`{directions: [Egress], allow: {kubeAPIServer: [{name: operators, podSelector: {}}]}}`,
			`{directions: [Ingress], allow: {kubeAPIServer: []}}`,
		},
		bad: []string{`{directions: [Ingress], allow: {kubeAPIServer: [{name: operators, podSelector: {}}]}}`},
	},
	"a namespace cannot be both exempt and listed in namespaces.exclude; keep the exemption, which has an owner and an end": {
		good: []string{exempt(`[sandbox]`, `[legacy]`), exempt(`[]`, `[legacy]`)},
		bad:  []string{exempt(`[sandbox, legacy]`, `[legacy]`), exempt(`[legacy]`, `[shop, legacy]`)},
	},
	"matchLabels must hold at least one label; to select everything leave matchLabels out": {
		good: []string{`{team: shop}`}, bad: []string{`{}`},
	},
	"every label in matchLabels must have a value, and null is none: give the value, write \"\" for the empty one, or remove the label": {
		good: []string{`{team: "", app: x}`, `{team: "null", app: x}`},
		bad:  []string{`{team: null}`, `{team: null, app: x}`, `{team: , app: x}`},
	},
	"every key of matchLabels must be a label key such as app or example.com/app: an optional DNS name and '/', then 1 to 63 letters, digits, '-', '_' and '.'": {
		good: []string{`{example.com/app: shop}`, `{app.kubernetes.io/name: shop, A_b.c-1: x}`},
		bad:  []string{`{a b: shop}`, `{"": shop}`, `{/app: shop}`, `{example.com/: shop}`, `{Example.com/app: shop}`},
	},
	"key must be a label key such as app or example.com/app: an optional DNS name and '/', then 1 to 63 letters, digits, '-', '_' and '.'": {
		good: []string{`example.com/app`, `A_b.c-1`},
		bad:  []string{`a b`, `/app`, `example.com/`, `Example.com/app`, `a/b/c`, strings.Repeat("a", 64)},
	},
	"values must be given for In and NotIn, and must be left out for Exists and DoesNotExist": {
		good: []string{`{key: app, operator: NotIn, values: [""]}`, `{key: app, operator: Exists, values: []}`},
		bad: []string{
			`{key: app, operator: In}`, `{key: app, operator: NotIn, values: []}`,
			`{key: app, operator: Exists, values: [a]}`, `{key: app, operator: DoesNotExist, values: [a]}`,
		},
	},
	"must be the name of a namespace: lower case letters, digits and '-', beginning and ending with a letter or digit": {
		good: []string{`shop-2`, `2-shops`}, bad: dnsLabels,
	},
	"must be lower case letters, digits and '-', beginning and ending with a letter or digit, such as payments-db: it becomes part of a policy name": {
		good: []string{`shop-2`, `2-shops`}, bad: dnsLabels,
	},
	"the names dns and kube-apiserver… are taken by allow.dns and allow.kubeAPIServer; choose another name": {
		good: []string{named("dns-2"), named("allow-dns")},
		bad:  []string{named("dns"), named("kube-apiserver"), named("kube-apiserver-operators")},
	},
	"justification must name the business need in at least 10 characters; leading and trailing blanks do not count": {
		good: []string{`" PCI 1.2.5 x "`}, bad: []string{`"          "`, `"because    "`},
	},
	"reason must say why the namespaces cannot be covered yet; blanks are no answer":                                                                                   {good: []string{`x`}, bad: blanks},
	"approvedBy must name who approved the exemption; blanks are no answer":                                                                                            {good: []string{`x`}, bad: blanks},
	"reviewedBy must name who reviewed the baseline; blanks are no answer":                                                                                             {good: []string{`x`}, bad: blanks},
	"expiresAt must lie between 2020 and 2100, such as 2027-01-31T00:00:00Z: an exemption ends; a namespace that is never to be covered belongs in namespaces.exclude": moments,
	"reviewedAt must lie between 2020 and 2100: give the moment of the last review, such as 2026-07-01T00:00:00Z":                                                      moments,
	"an allow-list that holds everybody allows everybody: give the ranges that administrators come from": {
		good: []string{`0.0.0.0/1`, `"::/1"`}, bad: []string{`0.0.0.0/0`, `"::/0"`},
	},
	"a firewall on nodes needs a list of who may pass: set allowedCIDRs": {
		good: []string{`{hostFirewall: "Off"}`, `{hostFirewall: Audit, allowedCIDRs: [` + rangeOf("10.0.0.0/8") + `]}`, `{}`},
		bad:  []string{`{hostFirewall: Audit}`, `{hostFirewall: Audit, allowedCIDRs: []}`},
	},
	"name must say whose range it is; blanks are no answer": {good: []string{`x`}, bad: blanks},
	"by must name who attests; blanks are no answer":        {good: []string{`x`}, bad: blanks},
	"an attestation ends after it begins: correct until": {
		good: []string{attestedUntil("2030-01-01T00:00:01Z")},
		bad:  []string{attestedUntil("2030-01-01T00:00:00Z"), attestedUntil("2029-12-31T00:00:00Z")},
	},
	"an attestation holds for at most 396 days: look again after a year": {
		good: []string{attestedUntil("2031-02-01T00:00:00Z")},
		bad:  []string{attestedUntil("2031-02-01T00:00:01Z"), attestedUntil("2099-01-01T00:00:00Z")},
	},
	"must lie between 2020 and 2100, such as 2026-07-01T00:00:00Z": {
		good: []string{`"2030-01-01T00:00:00-08:00"`}, bad: moments.bad,
	},
	"evidence must be a link such as https://wiki.example.com/firewall/2026-07": {
		good: []string{`https://a`, `"https://wiki.example.com/x?y=z#part"`},
		bad:  []string{`firewall`, `http://wiki.example.com/x`, `"https://"`, `ftp://wiki.example.com/x`},
	},
	"provider None asks no cloud: remove the other fields": {
		good: []string{`{provider: None}`, `{provider: EKS, name: prod}`},
		bad:  []string{`{provider: None, name: prod}`, `{provider: None, location: eu-west-1}`, `{provider: None, project: shop}`, `{provider: None, resourceGroup: shop}`},
	},
	"location is of EKS and GKE: remove it, AKS finds a cluster by subscriptionID, resourceGroup and name": {
		good: []string{`{location: eu-west-1}`, `{provider: GKE, location: eu-west-1}`}, bad: []string{`{provider: AKS, location: westeurope}`},
	},
	"project is of GKE: set provider to GKE, or remove it": {
		good: []string{`{provider: GKE, project: shop}`}, bad: []string{`{project: shop}`, `{provider: EKS, project: shop}`, `{provider: AKS, project: shop}`},
	},
	"subscriptionID is of AKS: set provider to AKS, or remove it": {
		good: []string{`{provider: AKS, subscriptionID: ` + subscription + `}`},
		bad:  []string{`{subscriptionID: ` + subscription + `}`, `{provider: EKS, subscriptionID: ` + subscription + `}`},
	},
	"resourceGroup is of AKS: set provider to AKS, or remove it": {
		good: []string{`{provider: AKS, resourceGroup: shop}`}, bad: []string{`{resourceGroup: shop}`, `{provider: GKE, resourceGroup: shop}`},
	},
	"must be a cluster's name: letters, digits, '-' and '_', beginning with a letter or digit": {
		good: []string{`prod_EU-1`, `"1"`}, bad: []string{`-prod`, `../prod`, `"prod;id"`, `prod.eu`, `"a b"`},
	},
	"must be a region or zone, such as eu-central-1 or europe-west3-a": {
		good: []string{`europe-west3-a`}, bad: []string{`eu.example.com`, `EU-West`, `"1a"`, `eu/x`},
	},
	"must be a project's ID, such as shop-prod; not its name or number": {
		good: []string{`example.com:shop`}, bad: []string{`"1234567"`, `Shop`, `shop/x`, `shop-`, `a:b:shop`},
	},
	"must be a subscription's ID, such as 00000000-0000-0000-0000-000000000000": {
		good: []string{`0F1E2D3C-4b5a-4697-8877-665544332211`}, bad: []string{`0f1e2d3c-4b5a-4697-8877-66554433221g`, `0f1e2d3c4b5a-4697-8877-6655443322111`},
	},
	"must be a resource group's name: letters, digits, '.', '-', '_' and parentheses": {
		good: []string{`shop_(eu).1-a`}, bad: []string{`"shop eu"`, `shop/x`, `"shop'$(id)"`},
	},
	"certificateNoticeDays must be less than maxCertificateAgeDays, or every certificate would be near its end at once": {
		good: []string{`{maxCertificateAgeDays: 31, certificateNoticeDays: 30}`, `{}`},
		bad:  []string{`{maxCertificateAgeDays: 30, certificateNoticeDays: 30}`, `{maxCertificateAgeDays: 30}`},
	},
	"must be the name of a Service: lower case letters, digits and '-', beginning with a letter": {
		good: []string{`a`, `shop-2`}, bad: []string{`Shop`, `2-shops`, `shop.prod`, `shop-`},
	},
	"an offender is a namespace with the state of its coverage, or a subject": {
		good: []string{`{namespace: shop, state: Failing, reason: X}`, `{subject: Ingress a/b, reason: X}`},
		bad: []string{
			`{reason: X}`, `{namespace: shop, reason: X}`, `{state: Failing, reason: X}`, `{subject: a, state: Failing, reason: X}`,
			`{subject: a, namespace: shop, state: Failing, reason: X}`,
		},
	},
	"4 nodes are tested at a time, so covering nodes takes nodes/4 intervals; that must not be more than freshnessSeconds, or the first proof is stale before the last is made": {
		good: []string{`{intervalSeconds: 120, freshnessSeconds: 240, nodes: 8}`}, bad: []string{`{intervalSeconds: 120, freshnessSeconds: 240, nodes: 9}`},
	},
	"address must be the IP address that pods know the host by, such as 192.0.2.7 or 2001:db8::7": {
		good: []string{`192.0.2.7`, `"2001:db8::7"`},
		bad:  []string{`vantage.example.com`, `"192.0.2.7:24310"`, `0.0.0.0`, `"::1"`, `"2001:DB8::7"`, `"::ffff:192.0.2.7"`},
	},
	"freshnessSeconds must be at least twice intervalSeconds, or a proof is stale before the next one is made": {
		good: []string{`{intervalSeconds: 120, freshnessSeconds: 240, nodes: 4}`}, bad: []string{`{intervalSeconds: 121, freshnessSeconds: 241, nodes: 4}`},
	},
	"a peer is either a cidr, or namespaceSelector and/or podSelector: give exactly one of the two forms": {
		good: []string{`{cidr: 0.0.0.0/0}`, `{podSelector: {}}`, `{namespaceSelector: {}}`, `{namespaceSelector: {}, podSelector: {}}`},
		bad:  []string{`{}`, `{cidr: 10.0.0.0/8, podSelector: {}}`, `{cidr: 10.0.0.0/8, namespaceSelector: {}}`},
	},
	"except takes ranges out of cidr: give cidr, or remove except": {
		good: []string{`{cidr: 10.0.0.0/8, except: []}`}, bad: []string{`{podSelector: {}, except: [10.0.0.0/8]}`},
	},
	"every entry of except must lie within cidr and be smaller than it; correct the entry or widen cidr": {
		good: []string{`{cidr: 10.0.0.0/8, except: [10.0.0.0/9, 10.255.255.255/32]}`, `{cidr: "2001:db8::/32", except: ["2001:db8:1::/48"]}`},
		bad: []string{
			`{cidr: 10.0.0.0/8, except: [10.0.0.0/8]}`, `{cidr: 10.0.0.0/8, except: [10.1.0.0/16, 11.0.0.0/16]}`,
			`{cidr: 10.0.0.0/8, except: [0.0.0.0/0]}`, `{cidr: 10.0.0.0/8, except: ["2001:db8::/32"]}`,
		},
	},
	"must be an address range in CIDR notation without host bits, such as 10.1.0.0/16 or 2001:db8::/32": {
		good: []string{`10.8.0.0/15`},
		bad:  []string{`10.9.7.3`, `10.9.7.3/24`, `10.09.7.0/24`, `10.9.7.0/33`, `10.9.7.0/024`, `"2001:db8::1/32"`, `"::ffff:10.0.0.0/104"`, `"fe80::%eth0/64"`, `any-host`},
	},
	"endPort is the last port of the range: it must not be smaller than port; leave it out for a single port": {
		good: []string{`{protocol: TCP, port: 1, endPort: 65535}`, `{protocol: TCP, port: 80, endPort: 80}`},
		bad:  []string{`{protocol: TCP, port: 80, endPort: 79}`},
	},
}

func exempt(exclude, namespaces string) string {
	return `{namespaces: {exclude: ` + exclude + `}, exemptions: [{namespaces: ` + namespaces +
		`, reason: It is old., approvedBy: ciso, expiresAt: "2030-01-01T00:00:00Z"}]}`
}

// attestedUntil returns an attestation of the beginning of 2030.
func attestedUntil(end string) string {
	return `{by: ciso, evidence: "https://wiki.example.com/x", at: "2030-01-01T00:00:00Z", until: "` + end + `"}`
}

const subscription = "0f1e2d3c-4b5a-4697-8877-665544332211"

func named(name string) string { return egress(name, `[{cidr: 10.0.0.0/8}]`, https) }
