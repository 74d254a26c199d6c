// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package apply is the only writer: it compares, creates, updates and deletes, and knows nothing of what the objects mean.
package apply

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// FieldOwner is our field manager. Never rename it: what an older version wrote would look foreign.
const FieldOwner = "pci-network-baseline"

// Operation says what a write did.
type Operation string

// The operations.
const (
	None    Operation = "none"
	Created Operation = "create"
	Updated Operation = "update"
	Patched Operation = "patch"
	Deleted Operation = "delete"
)

// Change is the outcome of a Write.
type Change struct {
	Operation Operation
	// Object is the object as stored after the write; the live one when nothing was written.
	Object client.Object
	// Drift is what an update put right.
	Drift Drift
}

// Applier writes objects.
type Applier struct {
	// Client sends the writes.
	Client client.Client
	// Observe is told of every write request and its outcome.
	Observe func(obj client.Object, op Operation, err error)
}

// Write makes the live object (nil when there is none) equal to the intended one in all that we own. It writes at most
// once: a create when there is none, an update with the live object's resourceVersion on drift, nothing otherwise. So it
// never overwrites what the caller has not seen: AlreadyExists and Conflict mean that the view was stale.
func (a *Applier) Write(ctx context.Context, intended, live client.Object) (Change, error) {
	if live == nil {
		obj := clone(intended)
		err := a.Client.Create(ctx, obj, client.FieldOwner(FieldOwner))
		a.Observe(obj, Created, err)
		if err != nil {
			return Change{}, fmt.Errorf("creating %s: %w", describe(intended), err)
		}
		return Change{Operation: Created, Object: obj}, nil
	}
	drift := Diff(intended, live)
	if drift.None() {
		return Change{Operation: None, Object: live}, nil
	}
	obj := clone(intended)
	obj.SetUID(live.GetUID())
	obj.SetResourceVersion(live.GetResourceVersion())
	obj.SetLabels(merged(live.GetLabels(), intended.GetLabels()))
	obj.SetAnnotations(merged(live.GetAnnotations(), intended.GetAnnotations()))
	err := a.Client.Update(ctx, obj, client.FieldOwner(FieldOwner))
	a.Observe(obj, Updated, err)
	if err != nil {
		return Change{}, fmt.Errorf("updating %s: %w", describe(intended), err)
	}
	return Change{Operation: Updated, Object: obj, Drift: drift}, nil
}

// ErrDeleted is of a Renew that has deleted the live object, or may have, and created none.
var ErrDeleted = errors.New("the one before may be deleted")

// Renew deletes the live object and creates the intended one in its place: for a change that whoever goes by the object does not take as an update. The
// API server is asked before whether it would let a new one pass, so that none is gone for one that is refused: it says that there is one already, and that
// only after admission (k8s.io/apiserver pkg/registry/generic/registry/store.go, Create).
func (a *Applier) Renew(ctx context.Context, intended, live client.Object) (Change, error) {
	if live.GetDeletionTimestamp() != nil {
		return Change{}, fmt.Errorf("%s is being deleted, and not gone yet", describe(live))
	}
	err := a.Client.Create(ctx, clone(intended), client.FieldOwner(FieldOwner), client.DryRunAll)
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return Change{}, fmt.Errorf("asking whether %s may be created: %w", describe(intended), err)
	}
	if err := a.Delete(ctx, live); err != nil {
		if status := apierrors.APIStatus(nil); !errors.As(err, &status) || status.Status().Code >= http.StatusInternalServerError {
			err = fmt.Errorf("%w: %w", ErrDeleted, err) // nobody has said no
		}
		return Change{}, err
	}
	change, err := a.Write(ctx, intended, nil)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrDeleted, err)
	}
	return change, err
}

// Delete deletes exactly the object that was seen: the same UID at the same resourceVersion. An object that is gone
// already is no error; one that changed meanwhile is a Conflict.
func (a *Applier) Delete(ctx context.Context, live client.Object) error {
	uid, version := live.GetUID(), live.GetResourceVersion()
	err := a.Client.Delete(ctx, live, client.Preconditions{UID: &uid, ResourceVersion: &version})
	a.Observe(live, Deleted, err)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting %s: %w", describe(live), err)
	}
	return nil
}

// End deletes an object whatever has become of it meanwhile, provided that it still is the same one. grace is in seconds; nil
// leaves it to the object. Zero does not wait for anybody: it is for what runs where nobody answers any more.
func (a *Applier) End(ctx context.Context, live client.Object, grace *int64) error {
	uid := live.GetUID()
	err := a.Client.Delete(ctx, live, &client.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}, GracePeriodSeconds: grace})
	a.Observe(live, Deleted, err)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting %s: %w", describe(live), err)
	}
	return nil
}

// Rehearse asks whether an object of that name may be deleted, and deletes nothing. One that is not there may be, but not one of a
// kind that is not: whoever answers so has no such path, and says nothing of rights.
func (a *Applier) Rehearse(ctx context.Context, obj client.Object) error {
	err := a.Client.Delete(ctx, obj, client.DryRunAll)
	if err != nil && (!apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)) {
		return fmt.Errorf("asking whether %s may be deleted: %w", describe(obj), err)
	}
	return nil
}

// Annotate sets one annotation of an object, whatever else has changed.
func (a *Applier) Annotate(ctx context.Context, live client.Object, key, value string) error {
	obj := clone(live)
	obj.SetAnnotations(merged(live.GetAnnotations(), map[string]string{key: value}))
	err := a.Client.Patch(ctx, obj, client.MergeFrom(live), client.FieldOwner(FieldOwner))
	a.Observe(obj, Patched, err)
	if err != nil {
		return fmt.Errorf("annotating %s: %w", describe(live), err)
	}
	return nil
}

// Replace writes an object back as the caller has changed it, provided that it has not changed otherwise since it was read: else it is a
// Conflict. It is for objects that others make and go on tracking: unlike Write it takes nothing of theirs away. The object then is as
// stored.
func (a *Applier) Replace(ctx context.Context, changed client.Object) error {
	err := a.Client.Update(ctx, changed, client.FieldOwner(FieldOwner))
	a.Observe(changed, Updated, err)
	if err != nil {
		return fmt.Errorf("updating %s: %w", describe(changed), err)
	}
	return nil
}

// ApplyStatus applies a status payload (apiVersion, kind, name and the part of status that owner owns) server-side.
// Every controller has an owner of its own, so that one never removes another's conditions.
func (a *Applier) ApplyStatus(ctx context.Context, payload *unstructured.Unstructured, owner string) error {
	err := a.Client.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(payload), client.FieldOwner(owner), client.ForceOwnership)
	a.Observe(payload, Patched, err)
	if err != nil {
		return fmt.Errorf("applying the status of %s: %w", describe(payload), err)
	}
	return nil
}

// SetFinalizers replaces the finalizers of an object, provided that it has not changed since it was read.
func (a *Applier) SetFinalizers(ctx context.Context, live client.Object, finalizers []string) error {
	obj := clone(live)
	obj.SetFinalizers(finalizers)
	err := a.Client.Patch(ctx, obj, client.MergeFromWithOptions(live, client.MergeFromWithOptimisticLock{}), client.FieldOwner(FieldOwner))
	a.Observe(obj, Patched, err)
	if err != nil {
		return fmt.Errorf("setting the finalizers of %s: %w", describe(live), err)
	}
	return nil
}

// clone copies an object; cached objects are shared and must not be written to.
func clone(obj client.Object) client.Object {
	out, ok := obj.DeepCopyObject().(client.Object)
	if !ok {
		panic(fmt.Sprintf("%T copies to something that is no object", obj)) // not possible: the copy has the same type
	}
	return out
}

// merged keeps what others put beside our labels or annotations, except tracking keys.
func merged(live, ours map[string]string) map[string]string {
	out := maps.Clone(live)
	if out == nil {
		out = map[string]string{}
	}
	for _, k := range trackingKeys(out) {
		delete(out, k)
	}
	maps.Copy(out, ours)
	return out
}

func describe(obj client.Object) string {
	kind := obj.GetObjectKind().GroupVersionKind().Kind
	if kind == "" {
		kind = fmt.Sprintf("%T", obj)
	}
	return fmt.Sprintf("%s %s", kind, client.ObjectKeyFromObject(obj))
}
