// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package planted

import (
	"context"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/pointer" // fault: depguard
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Writer embeds a client: forbidigo does not see w.Update.
type Writer struct {
	client.Client // fault: embedded-client
}

// Write writes past internal/apply.
func (w *Writer) Write(ctx context.Context, c client.Client) error {
	fmt.Println(time.Now())  // fault: forbidigo context logger
	_ = time.Now()           // fault: forbidigo PassiveClock
	_ = os.Getenv("PLANTED") // fault: forbidigo environment
	_ = pointer.Int(1)
	c.Create(ctx, &corev1.Pod{})                         // fault: errcheck
	if err := c.Create(ctx, &corev1.Pod{}); err != nil { // fault: forbidigo internal/apply
		return err
	}
	if err := c.Status().Update(ctx, &corev1.Pod{}); err != nil { // fault: forbidigo internal/apply
		return err
	}
	return c.Delete(ctx, &corev1.Pod{}) // fault: forbidigo internal/apply
}
