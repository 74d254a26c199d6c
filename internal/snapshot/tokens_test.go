// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

func TestTokenKeysOf(t *testing.T) {
	t.Parallel()
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := e.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	spki := func(public any) string {
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(der)
		return hex.EncodeToString(sum[:])
	}
	text := base64.RawURLEncoding.EncodeToString
	big7 := text(big.NewInt(65537).Bytes())
	rsaKey := fmt.Sprintf(`{"use": "sig", "kty": "RSA", "kid": "r", "alg": "RS256", "n": %q, "e": %q}`, text(r.N.Bytes()), big7)
	ecKey := fmt.Sprintf(`{"kty": "EC", "kid": "e", "crv": "P-521", "x": %q, "y": %q}`, text(point[1:67]), text(point[67:]))
	type keys = []snapshot.TokenKey
	for name, tc := range map[string]struct {
		keys, signer string
		want         keys
	}{
		"two, of which one signs": {rsaKey + "," + ecKey, "r", keys{
			{ID: "e", KeyType: "ECDSA", KeyBits: 521, SPKI: spki(e.Public())}, {ID: "r", KeyType: "RSA", KeyBits: 2048, SPKI: spki(r.Public()), Signs: true},
		}},
		"one twice":               {rsaKey + "," + rsaKey, "", keys{{ID: "r", KeyType: "RSA", KeyBits: 2048, SPKI: spki(r.Public())}}},
		"without a name":          {strings.Replace(rsaKey, `"kid": "r"`, `"kid": ""`, 1), "x", keys{{ID: spki(r.Public()), KeyType: "RSA", KeyBits: 2048, SPKI: spki(r.Public())}}},
		"of another kind":         {`{"kty": "OKP", "kid": "o"}`, "", keys{{ID: "o", KeyType: "OKP"}}},
		"a curve that nobody has": {`{"kty": "EC", "kid": "o", "crv": "P-1", "x": "AA", "y": "AA"}`, "", keys{{ID: "o", KeyType: "ECDSA"}}},
		"a point beside its curve": {
			`{"kty": "EC", "kid": "o", "crv": "P-256", "x": "AQ", "y": "AQ"}`, "", keys{{ID: "o", KeyType: "ECDSA"}},
		},
		"coordinates that are too long": {
			fmt.Sprintf(`{"kty": "EC", "kid": "o", "crv": "P-256", "x": %q, "y": "AQ"}`, text(point[1:67])), "", keys{{ID: "o", KeyType: "ECDSA"}},
		},
		"a modulus that is no number": {`{"kty": "RSA", "kid": "o", "n": "?", "e": "AQAB"}`, "", keys{{ID: "o", KeyType: "RSA"}}},
		"an exponent without end":     {fmt.Sprintf(`{"kty": "RSA", "kid": "o", "n": "AQ", "e": %q}`, text(r.N.Bytes())), "", keys{{ID: "o", KeyType: "RSA"}}},
		"no exponent":                 {fmt.Sprintf(`{"kty": "RSA", "kid": "o", "n": %q}`, text(r.N.Bytes())), "", keys{{ID: "o", KeyType: "RSA"}}},
		"an exponent of 1":            {fmt.Sprintf(`{"kty": "RSA", "kid": "o", "n": %q, "e": "AQ"}`, text(r.N.Bytes())), "", keys{{ID: "o", KeyType: "RSA"}}},
		"an even exponent":            {fmt.Sprintf(`{"kty": "RSA", "kid": "o", "n": %q, "e": "BA"}`, text(r.N.Bytes())), "", keys{{ID: "o", KeyType: "RSA"}}},
		"two of one name":             {rsaKey + "," + strings.Replace(ecKey, `"kid": "e"`, `"kid": "r"`, 1), "", nil},
		"none":                        {"", "", nil},
		"no key":                      {"7", "", nil},
	} {
		got, err := snapshot.TokenKeysOf([]byte(`{"keys": [`+tc.keys+`]}`), tc.signer)
		unknown := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".SPKI" }, cmp.Comparer(func(a, b string) bool {
			return a == b || (a == "" && len(b) == 64) || (b == "" && len(a) == 64)
		}))
		if diff := cmp.Diff(tc.want, got, unknown, cmpopts.EquateEmpty()); diff != "" || (err != nil) != (tc.want == nil) {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
	if _, err := snapshot.TokenKeysOf([]byte("<html>"), ""); err == nil {
		t.Error("a page is read as keys")
	}
}

func TestSignerOf(t *testing.T) {
	t.Parallel()
	for token, want := range map[string]string{
		base64.RawURLEncoding.EncodeToString([]byte(`{"alg": "RS256", "kid": "a"}`)) + ".e30.c2ln": "a",
		base64.RawURLEncoding.EncodeToString([]byte(`{"alg": "RS256"}`)) + ".e30.c2ln":             "",
		"abcdef.0123456789abcdef": "", "": "",
	} {
		if got := snapshot.SignerOf(token); got != want {
			t.Errorf("of %q it is %q, want %q", token, got, want)
		}
	}
}
