// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
	"strings"
)

// Tokens are the keys by which the API server tells tokens of service accounts from forged ones.
type Tokens struct {
	// Keys are sorted by ID; nil when they could not be read, and Problem says why.
	Keys    []TokenKey
	Problem string
}

// TokenKey is a public key of a JSON Web Key Set, which holds no dates.
type TokenKey struct {
	// ID is what tokens name it by.
	ID string
	// KeyType, KeyBits and SPKI are as Certificate has them; KeyBits is 0 and SPKI a hash of all of it where the kind is not known.
	KeyType string
	KeyBits int
	SPKI    string
	// Signs says that the operator's own token is signed with it.
	Signs bool
	// Seen is what was seen of it so far; empty where nobody remembers. Since is when it was seen first, Before when the newest of
	// those that were there earlier was. Changes is 1 once it signs in the place of one of them, as was seen at Changed.
	Seen Keys
}

// maxKeyID is far above the 43 characters that the API server makes of a key in a file.
const maxKeyID = 64

// TokenKeysOf reads a JSON Web Key Set (RFC 7517). signer is the ID of the key that signs.
func TokenKeysOf(set []byte, signer string) ([]TokenKey, error) {
	var parsed struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(set, &parsed); err != nil {
		return nil, err
	}
	var out []TokenKey
	for _, raw := range parsed.Keys {
		k, err := tokenKeyOf(raw)
		if err != nil {
			return nil, err
		}
		k.Signs = k.ID == signer
		if k.ID == "" || len(k.ID) > maxKeyID {
			k.ID = k.SPKI
		}
		out = append(out, k)
	}
	if len(out) == 0 {
		return nil, errors.New("no key in it")
	}
	slices.SortFunc(out, func(a, b TokenKey) int { return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.SPKI, b.SPKI)) })
	out = slices.CompactFunc(out, func(a, b TokenKey) bool { return a.ID == b.ID && a.SPKI == b.SPKI })
	for i := range out[1:] {
		if out[i].ID == out[i+1].ID {
			return nil, errors.New("two keys have one name") // one would hide the other
		}
	}
	return out, nil
}

func tokenKeyOf(raw json.RawMessage) (TokenKey, error) {
	var jwk struct{ Kid, Kty, Crv, N, E, X, Y string }
	if err := json.Unmarshal(raw, &jwk); err != nil {
		return TokenKey{}, err
	}
	sum := sha256.Sum256(raw)
	out := TokenKey{ID: jwk.Kid, KeyType: jwk.Kty, SPKI: hex.EncodeToString(sum[:])}
	var public any
	switch jwk.Kty {
	case "RSA":
		e := number(jwk.E)
		if !e.IsInt64() || e.Int64() > 1<<31-1 || e.Int64() < 3 || e.Bit(0) == 0 { // with 1 or none anybody signs
			return out, nil
		}
		key := &rsa.PublicKey{N: number(jwk.N), E: int(e.Int64())}
		out.KeyBits, public = key.N.BitLen(), key
	case "EC":
		out.KeyType = "ECDSA"
		curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[jwk.Crv]
		if curve == nil {
			return out, nil
		}
		size := (curve.Params().BitSize + 7) / 8
		x, y := number(jwk.X), number(jwk.Y)
		if x.BitLen() > 8*size || y.BitLen() > 8*size {
			return out, nil
		}
		point := append([]byte{4}, append(x.FillBytes(make([]byte, size)), y.FillBytes(make([]byte, size))...)...)
		key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
		if err != nil {
			return out, nil //nolint:nilerr // a key that is none has no size, and is told so
		}
		out.KeyBits, public = curve.Params().BitSize, key
	}
	if der, err := x509.MarshalPKIXPublicKey(public); err == nil {
		spki := sha256.Sum256(der)
		out.SPKI = hex.EncodeToString(spki[:])
	}
	return out, nil
}

// number reads base64url, big-endian. What cannot be read is 0, and no key has that size.
func number(text string) *big.Int {
	data, _ := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	return new(big.Int).SetBytes(data)
}

// SignerOf returns the ID of the key that a token says it is signed with; "" if it says nothing.
func SignerOf(token string) string {
	head, _, _ := strings.Cut(token, ".")
	data, err := base64.RawURLEncoding.DecodeString(head)
	var header struct{ Kid string }
	if err != nil || json.Unmarshal(data, &header) != nil {
		return ""
	}
	return header.Kid
}
