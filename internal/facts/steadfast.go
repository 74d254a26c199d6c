// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"context"
	"errors"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

const (
	// askFirst and askLast bound how long a watch that could not start waits before it tries again, and then half as long more.
	askFirst, askLast = 200 * time.Millisecond, 2 * time.Second
	// shortWatch is the life below which a reflector takes the end of a watch for a failure.
	shortWatch = time.Second
)

// steadfast keeps from a reflector that the API server does not answer. At every failure a reflector waits twice as long, up to
// a minute, and would see what happened in an outage only then; nothing there can be set (k8s.io/client-go
// tools/cache/reflector.go, kubernetes/kubernetes#136943). So watches that cannot start try again here, and those that break end
// as if they had been closed: the reflector then goes on from the version it has. Lists need nothing of the kind, because
// reflectors stream them with a watch. What the API server has answered for good is passed on: that a version is too old, or
// a right is missing. What becomes of the watches is noted in seen.
func steadfast(lw toolscache.ListerWatcher, seen *sight) toolscache.ListerWatcher {
	from := toolscache.ToListerWatcherWithContext(lw)
	return &toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			list, err := from.ListWithContext(ctx, options)
			if err != nil {
				seen.failed(err)
			}
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			for after := askFirst; ; after = min(2*after, askLast) {
				w, err := from.WatchWithContext(ctx, options)
				if err == nil {
					return steady(w, seen), nil
				}
				seen.failed(err)
				if !passes(err) {
					return nil, err
				}
				klog.FromContext(ctx).Info("Waiting for the API server to let us watch", "after", after, "err", err.Error())
				select {
				case <-ctx.Done():
					return nil, err
				case <-time.After(wait.Jitter(after, 0.5)):
				}
			}
		},
	}
}

// steady ends like w, but never with an error that passes, nor within its first second.
func steady(w watch.Interface, seen *sight) watch.Interface {
	seen.began()
	events := make(chan watch.Event)
	out := watch.NewProxyWatcher(events)
	go func() {
		defer close(events)
		defer seen.ended()
		defer w.Stop()
		short := time.NewTimer(shortWatch)
		defer short.Stop()
		for {
			select {
			case <-out.StopChan():
				return
			case e, open := <-w.ResultChan():
				if !open || e.Type == watch.Error && passes(apierrors.FromObject(e.Object)) {
					select {
					case <-short.C:
					case <-out.StopChan():
					}
					return
				}
				select {
				case events <- e:
				case <-out.StopChan():
					return
				}
			}
		}
	}()
	return out
}

// passes says whether an error will go without anybody's doing: there was no answer, or one that says to come again. A version
// that the server has not reached yet is for the reflector, which then asks for any. A kind that is not there may come.
func passes(err error) bool {
	code := int32(http.StatusServiceUnavailable)
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		code = status.Status().Code
	}
	return (code == http.StatusTooManyRequests || code == http.StatusNotFound || code >= http.StatusInternalServerError) &&
		!apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge)
}
