// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package planted

import (
	"fmt"

	v1 "k8s.io/api/core/v1" // fault: importas
)

// Explain names a pod // fault: godot
func Explain(pod *v1.Pod, err error) error {
	if err == nil { //nolint:nestif // fault: nolintlint
		return nil
	}
	return fmt.Errorf("pod %s: %v", pod.Name, err) // fault: errorlint
}

func Unexplained() {} // fault: revive exported
