// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// The condition types. Unless said otherwise True is good, every type is present from the first visit (Unknown until
// it was looked at), and Unknown never counts as True.
const (
	// ConditionReady: every namespace in scope has its policies in place as of this generation, and nothing known
	// contradicts that they are enforced. On a NamespaceCoverage: the same for that namespace.
	ConditionReady = "Ready"

	// ConditionReconciling is present, and True, only while the operator is working towards Ready (kstatus).
	ConditionReconciling = "Reconciling"

	// ConditionStalled is present, and True, only when a human has to act before Ready can come (kstatus).
	ConditionStalled = "Stalled"

	// ConditionDefaultDenyInPlace (4.1): the deny and every allowance exist and match, in every namespace in scope.
	ConditionDefaultDenyInPlace = "DefaultDenyInPlace"

	// ConditionDefaultDenyEffective (4.1): no other NetworkPolicy undoes the deny. Pods that no policy can cover are listed
	// in the NamespaceCoverage.
	ConditionDefaultDenyEffective = "DefaultDenyEffective"

	// ConditionContested is abnormal when True: somebody else keeps changing our objects.
	ConditionContested = "Contested"

	// ConditionExemptionsCurrent (PCI DSS 1.2.5): no exemption has expired.
	ConditionExemptionsCurrent = "ExemptionsCurrent"

	// ConditionReviewCurrent (PCI DSS 1.2.7): the baseline was reviewed in the last 180 days.
	ConditionReviewCurrent = "ReviewCurrent"

	// ConditionPolicyEngineSupported (4.1): the cluster's policy engine enforces what the operator writes.
	ConditionPolicyEngineSupported = "PolicyEngineSupported"

	// ConditionEnforcementProven (4.1): packets have shown that nodes drop denied traffic, in every direction that is denied and
	// every IP family. On the NamespaceCoverage of the canaries' namespace: the same.
	ConditionEnforcementProven = "EnforcementProven"

	// ConditionManagementAccessRestricted (4.2): an allow-list protects the management interfaces.
	ConditionManagementAccessRestricted = "ManagementAccessRestricted"

	// ConditionManagementTrafficEncrypted (4.3): management traffic is encrypted with keys that rotate.
	ConditionManagementTrafficEncrypted = "ManagementTrafficEncrypted"

	// ConditionCompliant: all of the requirement conditions are True. It is evidence for an assessor, not a verdict
	// under PCI DSS.
	ConditionCompliant = "Compliant"
)

// The reasons of conditions.
const (
	// ReasonProgressing: namespaces are being worked on.
	ReasonProgressing = "Progressing"
	// ReasonAllNamespacesProtected: every namespace in scope has its policies.
	ReasonAllNamespacesProtected = "AllNamespacesProtected"
	// ReasonNamespaceProtected: the namespace has its policies.
	ReasonNamespaceProtected = "NamespaceProtected"
	// ReasonNotWatched: the API server does not let the operator watch a kind, so what was seen last may no longer be true.
	ReasonNotWatched = "NotWatched"
	// ReasonNoNamespaceSelected: the baseline selects no namespace, so it protects nothing.
	ReasonNoNamespaceSelected = "NoNamespaceSelected"
	// ReasonNamespaceTerminating: a namespace in scope has been terminating for more than five minutes.
	ReasonNamespaceTerminating = "NamespaceTerminating"
	// ReasonAuditMode: enforcement is Audit, so the operator writes and repairs nothing.
	ReasonAuditMode = "AuditMode"
	// ReasonExempt: an exemption takes the namespace out of scope.
	ReasonExempt = "Exempt"
	// ReasonPoliciesMissing: a deny or allowance is missing or differs from what it should be.
	ReasonPoliciesMissing = "PoliciesMissing"
	// ReasonDNSNotFound: no cluster DNS was found, so the DNS allowance was not written.
	ReasonDNSNotFound = "DNSNotFound"
	// ReasonAPIServerNotFound: the endpoints of the API server are unknown, so their allowance was not written.
	ReasonAPIServerNotFound = "APIServerNotFound"
	// ReasonNameCollision: somebody else's object has the name of one of our policies; it is not overwritten, and the
	// policy is written under a second name.
	ReasonNameCollision = "NameCollision"
	// ReasonPolicyRefused: the policy engine says that it will not have one of our policies, so it does not enforce it.
	ReasonPolicyRefused = "PolicyRefused"
	// ReasonForbidden: the API server does not permit the operator to write a policy.
	ReasonForbidden = "Forbidden"
	// ReasonQuotaExceeded: a ResourceQuota leaves no room for a policy.
	ReasonQuotaExceeded = "QuotaExceeded"
	// ReasonAdmissionRefused: an admission policy or webhook refuses a policy.
	ReasonAdmissionRefused = "AdmissionRefused"
	// ReasonWriteFailed: a policy could not be written for another reason; the operator tries again.
	ReasonWriteFailed = "WriteFailed"
	// ReasonDirectionNotDenied: spec.directions leaves a direction open.
	ReasonDirectionNotDenied = "DirectionNotDenied"
	// ReasonPolicyWidens: a policy of somebody else undoes the deny for some pods.
	ReasonPolicyWidens = "PolicyWidens"
	// ReasonNothingWidens: no other NetworkPolicy undoes the deny.
	ReasonNothingWidens = "NothingWidens"
	// ReasonRepeatedChanges: somebody changed our policies again and again within a minute.
	ReasonRepeatedChanges = "RepeatedChanges"
	// ReasonUncontested: nobody keeps changing our policies.
	ReasonUncontested = "Uncontested"
	// ReasonNoExemptions: there is no exemption.
	ReasonNoExemptions = "NoExemptions"
	// ReasonExemptionsValid: no exemption has expired or is about to.
	ReasonExemptionsValid = "ExemptionsValid"
	// ReasonExemptionExpiring: an exemption expires within 14 days.
	ReasonExemptionExpiring = "ExemptionExpiring"
	// ReasonExemptionExpired: an exemption has expired; its namespaces are denied again.
	ReasonExemptionExpired = "ExemptionExpired"
	// ReasonNeverReviewed: spec.review is unset.
	ReasonNeverReviewed = "NeverReviewed"
	// ReasonReviewed: the last review is at most 180 days old.
	ReasonReviewed = "Reviewed"
	// ReasonReviewOverdue: the last review is more than 180 days old.
	ReasonReviewOverdue = "ReviewOverdue"
	// ReasonReviewInFuture: the last review is dated in the future.
	ReasonReviewInFuture = "ReviewInFuture"
	// ReasonNotAssessed: the requirement is not assessed, because the spec does not ask for it.
	ReasonNotAssessed = "NotAssessed"
	// ReasonRequirementsMet: all requirement conditions are True.
	ReasonRequirementsMet = "RequirementsMet"
	// ReasonRequirementsNotMet: a requirement condition is False.
	ReasonRequirementsNotMet = "RequirementsNotMet"
	// ReasonRequirementsUnknown: no requirement condition is False, but some are Unknown.
	ReasonRequirementsUnknown = "RequirementsUnknown"
	// ReasonDeleting: the baseline is being deleted and its policies removed.
	ReasonDeleting = "Deleting"
	// ReasonInvalidSpec: the spec cannot be planned.
	ReasonInvalidSpec = "InvalidSpec"
	// ReasonAdmissionNotInPlace: what the API server was to refuse could not be told to it.
	ReasonAdmissionNotInPlace = "AdmissionNotInPlace"
	// ReasonBreakGlass: for a limited time everybody may change the policies, and changes are not repaired.
	ReasonBreakGlass = "BreakGlass"
)

// The reasons of ManagementAccessRestricted and ManagementTrafficEncrypted, and of findings about management interfaces.
const (
	// ReasonManagementNotObservable: something about a management interface could not be seen, so that nothing is said of it.
	ReasonManagementNotObservable = "ManagementNotObservable"
	// ReasonAccessNotDeclared: spec.managementAccess has no allow-list.
	ReasonAccessNotDeclared = "AccessNotDeclared"
	// ReasonConsoleExposed: a console can be reached from addresses that are not on the allow-list.
	ReasonConsoleExposed = "ConsoleExposed"
	// ReasonHostFirewallRefused: a firewall on nodes with this allow-list would cut off what the cluster needs, so it is refused.
	ReasonHostFirewallRefused = "HostFirewallRefused"
	// ReasonHostFirewallIneffective: a firewall on nodes would have no effect, or another one than meant.
	ReasonHostFirewallIneffective = "HostFirewallIneffective"
	// ReasonHostFirewallPending: a firewall on nodes is to be enforced and is not yet, or there is nobody who would take it back.
	ReasonHostFirewallPending = "HostFirewallPending"
	// ReasonHostFirewallTakenBack: a firewall on nodes was tried, and taken back because somebody lost contact.
	ReasonHostFirewallTakenBack = "HostFirewallTakenBack"
	// ReasonAttestationExpired: the attestation of who can reach the API server has expired, or has not begun.
	ReasonAttestationExpired = "AttestationExpired"
	// ReasonAccessAttested: what can be seen agrees with the allow-list, and a person attests what cannot.
	ReasonAccessAttested = "AccessAttested"
	// ReasonAccessTooWide: whoever runs the API server lets in addresses that are not on the allow-list.
	ReasonAccessTooWide = "AccessTooWide"
	// ReasonCloudUnreadable: the cloud that runs the API server could not be asked who can reach it, or described another cluster.
	ReasonCloudUnreadable = "CloudUnreadable"
	// ReasonAccessRestricted: whoever runs the API server says that it lets in nobody who is not on the allow-list.
	ReasonAccessRestricted = "AccessRestricted"
	// ReasonPlaintext: a management interface answers in the clear, or is called so.
	ReasonPlaintext = "Plaintext"
	// ReasonTLSTooOld: a management interface accepts a version of TLS, or a cipher, that is too weak.
	ReasonTLSTooOld = "TLSTooOld"
	// ReasonCertificateUnfit: a certificate has expired, is too weak, or older than its cryptoperiod.
	ReasonCertificateUnfit = "CertificateUnfit"
	// ReasonTokenKeyUnfit: a key of service accounts' tokens is too weak, or has been in use for longer than its cryptoperiod.
	ReasonTokenKeyUnfit = "TokenKeyUnfit"
	// ReasonPeerUnverified: a client of a management interface does not verify whom it has reached, or could not.
	ReasonPeerUnverified = "PeerUnverified"
	// ReasonAnonymousAccess: a management interface serves who has not logged in, or does not ask who may do what.
	ReasonAnonymousAccess = "AnonymousAccess"
	// ReasonTrafficEncrypted: every management interface that answers encrypts, with keys that are young and strong enough.
	ReasonTrafficEncrypted = "TrafficEncrypted"
)

// The reasons of PolicyEngineSupported, and of Ready where it follows.
const (
	// ReasonNotObserved: the platform has not been looked at completely yet.
	ReasonNotObserved = "NotObserved"
	// ReasonPolicyEngineEnforces: the policy engine enforces what is written, and no setting known to switch it off does.
	ReasonPolicyEngineEnforces = "PolicyEngineEnforces"
	// ReasonPlatformUnreadable: something that detection needs cannot be read.
	ReasonPlatformUnreadable = "PlatformUnreadable"
	// ReasonNoNodes: the cluster has no node on which policies could be enforced.
	ReasonNoNodes = "NoNodes"
	// ReasonPolicyEngineUnknown: no policy engine that this version knows was recognised.
	ReasonPolicyEngineUnknown = "PolicyEngineUnknown"
	// ReasonPolicyEngineUncertain: only weak signals say which policy engine there is.
	ReasonPolicyEngineUncertain = "PolicyEngineUncertain"
	// ReasonSeveralPolicyEngines: several policy engines are switched on, and which one enforces where is not known.
	ReasonSeveralPolicyEngines = "SeveralPolicyEngines"
	// ReasonNoPolicyEngine: the network plugin enforces no policies, and nothing else does.
	ReasonNoPolicyEngine = "NoPolicyEngine"
	// ReasonPolicyAgentNotReady: on some nodes the agent that enforces policies is not Ready.
	ReasonPolicyAgentNotReady = "PolicyAgentNotReady"
	// ReasonSettingUnreadable: a setting that may switch the policy engine off is missing or cannot be parsed.
	ReasonSettingUnreadable = "SettingUnreadable"
	// ReasonCiliumPolicyNever: Cilium's enable-policy is never, so that it ignores every policy.
	ReasonCiliumPolicyNever = "CiliumPolicyNever"
	// ReasonCiliumAuditMode: Cilium's policy-audit-mode is on, so that it logs denied traffic and lets it through.
	ReasonCiliumAuditMode = "CiliumAuditMode"
	// ReasonCiliumIgnoresNetworkPolicy: Cilium's enable-k8s-networkpolicy is off, so that it ignores NetworkPolicies.
	ReasonCiliumIgnoresNetworkPolicy = "CiliumIgnoresNetworkPolicy"
	// ReasonCiliumIgnoresCiliumPolicy: Cilium's enable-cilium-network-policy is off, so that it ignores
	// CiliumNetworkPolicies.
	ReasonCiliumIgnoresCiliumPolicy = "CiliumIgnoresCiliumPolicy"
	// ReasonCalicoDatastoreNotReady: Calico's datastore is locked, so that its agents enforce what they last saw.
	ReasonCalicoDatastoreNotReady = "CalicoDatastoreNotReady"
	// ReasonCalicoMigrating: Calico's objects are being migrated, and new policies have no effect until that is over.
	ReasonCalicoMigrating = "CalicoMigrating"
	// ReasonCalicoInterfacePrefix: Calico looks for other interfaces than the network plugin makes, so it may see no pod.
	ReasonCalicoInterfacePrefix = "CalicoInterfacePrefix"
	// ReasonVPCCNIAgentOff: the network policy agent of the Amazon VPC CNI is switched off.
	ReasonVPCCNIAgentOff = "VPCCNIAgentOff"
	// ReasonVPCCNIControllerOff: the network policy controller of Amazon EKS is switched off.
	ReasonVPCCNIControllerOff = "VPCCNIControllerOff"
	// ReasonVPCCNIControllerAbsent: the network policy controller of Amazon EKS is switched on, but has left no trace.
	ReasonVPCCNIControllerAbsent = "VPCCNIControllerAbsent"
	// ReasonK3sNetworkPolicyOff: k3s runs with --disable-network-policy.
	ReasonK3sNetworkPolicyOff = "K3sNetworkPolicyOff"
	// ReasonKubeRouterFirewallOff: kube-router runs with --run-firewall=false.
	ReasonKubeRouterFirewallOff = "KubeRouterFirewallOff"
	// ReasonKindnetNetworkPolicyOff: kindnet runs with --network-policy=false.
	ReasonKindnetNetworkPolicyOff = "KindnetNetworkPolicyOff"
	// ReasonWeavePolicyOff: Weave Net runs with EXPECT_NPC=0.
	ReasonWeavePolicyOff = "WeavePolicyOff"
	// ReasonOpenShiftSDNMode: OpenShift SDN runs in a mode that ignores NetworkPolicies.
	ReasonOpenShiftSDNMode = "OpenShiftSDNMode"
	// ReasonBackendNotServed: the API of the asked backend is not served.
	ReasonBackendNotServed = "BackendNotServed"
	// ReasonBackendNotEnforced: the policy engine in use does not enforce the API of the asked backend.
	ReasonBackendNotEnforced = "BackendNotEnforced"
)

// The reasons of EnforcementProven, and of Ready where denied traffic got through. Where the API server does not let canaries be,
// the reason is Forbidden, QuotaExceeded, AdmissionRefused or WriteFailed.
const (
	// ReasonDenialProven: as many nodes as asked for have a fresh proof.
	ReasonDenialProven = "DenialProven"
	// ReasonDeniedTrafficPasses: packets that are denied got through on a node.
	ReasonDeniedTrafficPasses = "DeniedTrafficPasses"
	// ReasonProofPending: nodes are still to be tested.
	ReasonProofPending = "ProofPending"
	// ReasonProofStale: the last proof is older than the freshness limit.
	ReasonProofStale = "ProofStale"
	// ReasonControlFailed: what is allowed did not connect either, or a canary did not report all, so that silence proves nothing.
	ReasonControlFailed = "ControlFailed"
	// ReasonCanaryNamespaceMissing: the namespace of the canaries does not exist.
	ReasonCanaryNamespaceMissing = "CanaryNamespaceMissing"
	// ReasonCanaryNotCovered: the baseline's deny is not in place in the namespace of the canaries.
	ReasonCanaryNotCovered = "CanaryNotCovered"
	// ReasonCanaryImageUnknown: the operator does not know its own image.
	ReasonCanaryImageUnknown = "CanaryImageUnknown"
	// ReasonCanaryNotStarted: a canary does not start.
	ReasonCanaryNotStarted = "CanaryNotStarted"
	// ReasonCanaryLost: a canary was deleted or evicted, or failed.
	ReasonCanaryLost = "CanaryLost"
	// ReasonCanaryOpened: an allowance or a policy of somebody else opens the canaries, so that nothing there is denied for certain.
	ReasonCanaryOpened = "CanaryOpened"
)
