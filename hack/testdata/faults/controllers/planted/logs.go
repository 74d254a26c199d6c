// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package planted

import (
	"context"
	"fmt"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
)

// Log says things the wrong way.
func Log(ctx context.Context, log logr.Logger, name string, err error) {
	log.Info(fmt.Sprintf("Planted %s", name)) // fault: constant-message
	log.Info("Planted " + name)               // fault: constant-message
	log.Error(err, fmt.Sprint("Planted", 1))  // fault: constant-message
	log.Info("Planted %s", "name", name)      // fault: loggercheck
	log.Info("Planted", "name")               // fault: loggercheck
	log.V(0).Info("Planted")                  // fault: logcheck
	klog.Infof("Planted %s", name)            // fault: logcheck
	_ = ctrl.LoggerFrom(ctx)
}
