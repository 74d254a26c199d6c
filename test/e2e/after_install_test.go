// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"testing"
	"time"
)

// verdictLimit is how long after an installation a network that enforces nothing must be found out.
const verdictLimit = time.Minute

// TestVerdictAfterInstall is the first test, by the name of its file, because it measures from the installation on.
func TestVerdictAfterInstall(t *testing.T) {
	b := createVerified(t)
	if env.enforces {
		t.Log(awaitCondition(t, b, "EnforcementProven=True/DenialProven"))
		t.Logf("Enforcement is proven %s after the installation has begun.", since(env.installed))
		return
	}
	t.Log(awaitCondition(t, b, "Ready=False/DeniedTrafficPasses", "Denied traffic gets through", "n1"))
	took := since(env.installed)
	t.Logf("Ready is False %s after the installation has begun.", took)
	if took > verdictLimit {
		t.Errorf("this is more than %s", verdictLimit)
	}
}

// since is for people.
func since(began time.Time) time.Duration { return time.Since(began).Round(100 * time.Millisecond) }
