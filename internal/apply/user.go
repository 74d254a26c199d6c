// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// User asks the API server under which user name it knows who writes. Nothing is stored.
func (a *Applier) User(ctx context.Context) (string, error) {
	review := &authenticationv1.SelfSubjectReview{}
	if err := a.Client.Create(ctx, review, client.DisableReadYourWritesConsistency); err != nil {
		return "", fmt.Errorf("asking who the operator is: %w", err)
	}
	return review.Status.UserInfo.Username, nil
}
