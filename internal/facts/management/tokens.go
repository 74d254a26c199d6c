// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"context"
	"net/http"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

const (
	jwksPath = "/openid/v1/jwks"
	jwksType = "application/jwk-set+json, application/json"
)

// askTokens reads the keys that tokens of service accounts are verified with. Of the operator's own token nothing is used but the ID of
// the key that signed it.
func (a *Asker) askTokens(ctx context.Context) (out snapshot.Tokens) {
	ctx, cancel := context.WithTimeout(ctx, Budget)
	defer cancel()
	body, status, err := get(ctx, &http.Client{Transport: a.Authenticated}, a.Server+jwksPath, "", jwksType)
	switch {
	case err != nil:
		out.Problem = "the API server does not answer"
	case status == http.StatusForbidden:
		out.Problem = "the operator has no right to get " + jwksPath
	case status != http.StatusOK:
		out.Problem = "the API server does not serve " + jwksPath
	default:
		if out.Keys, err = snapshot.TokenKeysOf(body, snapshot.SignerOf(a.Token())); err != nil {
			out.Problem = "what the API server answers at " + jwksPath + " holds no keys that can be read"
		}
	}
	return out
}
