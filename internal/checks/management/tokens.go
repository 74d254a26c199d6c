// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/checks"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

const tokenKeyPrefix = "service account key "

// TokenKeyName names a key that verifies tokens as the subjects of findings do.
func TokenKeyName(k *snapshot.TokenKey) string { return tokenKeyPrefix + k.ID }

// NamesTokenKey says whether a subject is such a key.
func NamesTokenKey(subject string) bool { return strings.HasPrefix(subject, tokenKeyPrefix) }

const replaceSigner = "Give the API server a new --service-account-signing-key-file, keep the old key in --service-account-key-file until its tokens have expired, then remove it"

// tokenKeysFit (4.3; PCI DSS 3.7.1): who holds or breaks one of these keys is every service account, so they are as strong as the keys
// of certificates.
func tokenKeysFit(s Subject, v *verdicts) {
	if s.Tokens.Keys == nil {
		v.unseen("service account keys", "they could not be read: "+s.Tokens.Problem, "Give the operator the right to: kubectl apply --server-side -k config/management")
	}
	for n := range s.Tokens.Keys {
		k := &s.Tokens.Keys[n]
		switch {
		case k.KeyBits == 0:
			v.unseen(TokenKeyName(k), "its kind is not known, or it is damaged", "Look at it: kubectl get --raw /openid/v1/jwks")
		case weak(k.KeyType, k.KeyBits):
			v.fail(pcinetv1alpha1.ReasonTokenKeyUnfit, TokenKeyName(k), fmt.Sprintf("it is too small: %s with %d bits", k.KeyType, k.KeyBits), replaceSigner)
		default:
			v.pass(TokenKeyName(k), fmt.Sprintf("it is strong enough: %s with %d bits", k.KeyType, k.KeyBits))
		}
		v.with(map[string]string{"keyType": k.KeyType, "keyBits": strconv.Itoa(k.KeyBits), "keySHA256": k.SPKI})
	}
}

// tokenKeysRotated is keysRotated for keys that nothing dates: what is known of their age is for how long they have been seen. One that
// does not sign any more still verifies whatever is signed with it, so its age counts until it is gone.
func tokenKeysRotated(s Subject, v *verdicts) {
	limit := time.Duration(s.Encryption.MaxCertificateAgeDays) * day
	notice := time.Duration(s.Encryption.CertificateNoticeDays) * day
	for n := range s.Tokens.Keys {
		key := &s.Tokens.Keys[n]
		k := key.Seen
		if k.Since.IsZero() {
			continue
		}
		f := Finding{
			Check: v.name, Clause: v.clause, Reason: pcinetv1alpha1.ReasonTokenKeyUnfit, Subject: TokenKeyName(key), Remedy: replaceSigner,
			Properties: KeyProperties(k),
		}
		maps.Copy(f.Properties, map[string]string{"keyType": key.KeyType, "keyBits": strconv.Itoa(key.KeyBits)})
		switch age := s.Now.Sub(k.Since); {
		case age > limit:
			f.Result, f.Evidence = checks.Fail, fmt.Sprintf("it has been in use since %s or longer, which is more than %d days", date(k.Since), s.Encryption.MaxCertificateAgeDays)
		case age > limit-notice:
			f.Result, f.Evidence = checks.Warn, fmt.Sprintf("it has been in use since %s or longer, and will soon be older than its cryptoperiod", date(k.Since))
		case k.Changes > 0 && k.Changed.Sub(k.Before) > limit:
			f.Result, f.Evidence, f.Remedy = checks.Warn, fmt.Sprintf("it was seen to sign in place of another on %s, after %d days", date(k.Changed), days(k)), "Replace it earlier"
		case k.Changes > 0:
			f.Result, f.Reason, f.Remedy = checks.Pass, pcinetv1alpha1.ReasonTrafficEncrypted, ""
			f.Evidence = fmt.Sprintf("it was seen to sign in place of another on %s, after %d days", date(k.Changed), days(k))
		default:
			f.Result, f.Reason, f.Remedy = checks.Skip, pcinetv1alpha1.ReasonManagementNotObservable, ""
			f.Evidence = fmt.Sprintf("it has been seen since %s; how old it is, and whether it was replaced in time, cannot be seen yet", date(k.Since))
			if !k.Before.IsZero() {
				f.Evidence = fmt.Sprintf("it was added on %s, and has not been seen to sign", date(k.Since))
			}
		}
		v.list = append(v.list, f)
	}
}
