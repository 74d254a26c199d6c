// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"fmt"
	"strconv"
	"time"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/checks"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// KeysRotated is the check whose findings carry what was seen of keys, for who looks later.
const KeysRotated = "KeysRotated"

const day = 24 * time.Hour

// keysRotated (4.3; PCI DSS 3.7.4): certificates are replaced before their cryptoperiod ends, and their keys with them. A young
// certificate of an old key hides its age. That nothing has changed yet says nothing; certificatesFit fails what is too old.
func keysRotated(s Subject, v *verdicts) {
	limit := time.Duration(s.Encryption.MaxCertificateAgeDays) * day
	spoken(s, func(i *snapshot.Interface) {
		k := i.Keys
		if k.Since.IsZero() {
			return
		}
		const renew = "Have a new key made whenever its certificate is renewed, such as with rotationPolicy: Always in cert-manager"
		f := Finding{Check: v.name, Clause: v.clause, Reason: pcinetv1alpha1.ReasonCertificateUnfit, Subject: name(i), Remedy: renew, Properties: KeyProperties(k)}
		switch {
		case k.Kept && s.Now.Sub(k.KeyFrom) > limit:
			f.Result, f.Evidence = checks.Fail, fmt.Sprintf("its certificate is renewed, but its key has been in use for more than %d days", s.Encryption.MaxCertificateAgeDays)
		case k.Kept:
			f.Result, f.Evidence = checks.Warn, fmt.Sprintf("its certificate was renewed on %s with the key of the one before, in use since %s", date(k.Changed), date(k.KeyFrom))
		case k.Changes > 0 && k.Changed.Sub(k.Before) > limit:
			f.Result, f.Evidence, f.Remedy = checks.Warn, fmt.Sprintf("its certificate and key were replaced on %s, after %d days", date(k.Changed), days(k)), "Replace them earlier"
		case k.Changes > 0:
			f.Result, f.Reason, f.Remedy = checks.Pass, pcinetv1alpha1.ReasonTrafficEncrypted, ""
			f.Evidence = fmt.Sprintf("its certificate and key were replaced on %s, after %d days", date(k.Changed), days(k))
		default:
			f.Result, f.Reason, f.Remedy = checks.Skip, pcinetv1alpha1.ReasonManagementNotObservable, ""
			f.Evidence = fmt.Sprintf("no other certificate than this one of %s has been seen since %s", date(k.From), date(k.Since))
		}
		v.list = append(v.list, f)
	})
}

func date(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// days is for how long the certificate before was in use.
func days(k snapshot.Keys) int { return int(k.Changed.Sub(k.Before) / day) }

// keyTimes are the properties that are times.
func keyTimes(k *snapshot.Keys) map[string]*time.Time {
	return map[string]*time.Time{
		"firstSeen": &k.Since, "certificateFrom": &k.From, "keyFrom": &k.KeyFrom, "changedAt": &k.Changed, "previousCertificateFrom": &k.Before,
	}
}

// KeyProperties returns what was seen of keys as properties of a finding.
func KeyProperties(k snapshot.Keys) map[string]string {
	out := map[string]string{"keySHA256": k.Key, "changes": strconv.Itoa(k.Changes), "keyKept": strconv.FormatBool(k.Kept)}
	if k.Certificate != "" {
		out["certificateSHA256"] = k.Certificate
	}
	for name, at := range keyTimes(&k) {
		if !at.IsZero() {
			out[name] = at.UTC().Format(time.RFC3339)
		}
	}
	return out
}

// KeysOf reads what KeyProperties wrote. ok is false for anything else.
func KeysOf(properties map[string]string) (k snapshot.Keys, ok bool) {
	k.Certificate, k.Key = properties["certificateSHA256"], properties["keySHA256"]
	var err error
	if k.Changes, err = strconv.Atoi(properties["changes"]); err != nil {
		return snapshot.Keys{}, false
	}
	if k.Kept, err = strconv.ParseBool(properties["keyKept"]); err != nil {
		return snapshot.Keys{}, false
	}
	for name, at := range keyTimes(&k) {
		if text := properties[name]; text != "" {
			if *at, err = time.Parse(time.RFC3339, text); err != nil {
				return snapshot.Keys{}, false
			}
		}
	}
	return k, k.Key != "" && (k.Certificate == "") == k.From.IsZero() && !k.Since.IsZero()
}
