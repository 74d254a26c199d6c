// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package eventually waits in tests for what comes by itself.
package eventually

import (
	"context"
	"testing"
	"time"
)

const (
	// Patience is far above what anything in these tests takes, for machines under load.
	Patience = 90 * time.Second
	// period is how often is looked.
	period = 20 * time.Millisecond
)

// That waits until check succeeds, and ends the test if it does not. It does so in cleanups, too, in which the test's context is over.
func That(t *testing.T, what string, check func() error) {
	t.Helper()
	if took, err := Within(context.WithoutCancel(t.Context()), Patience, check); err != nil {
		t.Fatalf("waited %s until %s: %v", took.Round(time.Second), what, err)
	}
}

// Within waits until check succeeds, and returns how long that took, or the last error.
func Within(ctx context.Context, limit time.Duration, check func() error) (time.Duration, error) {
	for began := time.Now(); ; {
		err := check()
		took := time.Since(began)
		if err == nil || took > limit || ctx.Err() != nil {
			return took, err
		}
		time.Sleep(period)
	}
}
