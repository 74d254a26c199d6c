// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package apply_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/pcinetwork/pci-network-baseline/internal/apply"
)

// recorder notes every request and answers it with err. What a real API server makes of the requests is tested in
// test/integration.
type recorder struct {
	err      error
	requests []string
	sent     []client.Object
	observed []string
}

func (r *recorder) note(obj client.Object, format string, args ...any) error {
	r.requests = append(r.requests, fmt.Sprintf(format, args...))
	r.sent = append(r.sent, obj)
	return r.err
}

// applier returns an Applier whose every request is noted and goes nowhere.
func (r *recorder) applier() *apply.Applier {
	funcs := interceptor.Funcs{
		Create: func(_ context.Context, _ client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
			o := (&client.CreateOptions{}).ApplyOptions(opts)
			return r.note(obj, "create %s as %s", obj.GetName(), o.FieldManager)
		},
		Update: func(_ context.Context, _ client.WithWatch, obj client.Object, opts ...client.UpdateOption) error {
			o := (&client.UpdateOptions{}).ApplyOptions(opts)
			return r.note(obj, "update %s at %s of %s as %s", obj.GetName(), obj.GetResourceVersion(), obj.GetUID(), o.FieldManager)
		},
		Delete: func(_ context.Context, _ client.WithWatch, obj client.Object, opts ...client.DeleteOption) error {
			p := (&client.DeleteOptions{}).ApplyOptions(opts).Preconditions
			if p == nil || p.UID == nil || p.ResourceVersion == nil {
				return r.note(obj, "delete %s whatever it is", obj.GetName())
			}
			return r.note(obj, "delete %s at %s of %s", obj.GetName(), *p.ResourceVersion, *p.UID)
		},
		Patch: func(_ context.Context, _ client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
			o := (&client.PatchOptions{}).ApplyOptions(opts)
			body, err := patch.Data(obj)
			return errors.Join(err, r.note(obj, "patch %s as %s: %s", obj.GetName(), o.FieldManager, body))
		},
		SubResourceApply: func(_ context.Context, _ client.Client, sub string, cfg runtime.ApplyConfiguration, opts ...client.SubResourceApplyOption) error {
			o := &client.SubResourceApplyOptions{}
			o.ApplyOpts(opts)
			named, ok := cfg.(interface{ GetName() string })
			if !ok {
				return fmt.Errorf("%T has no name", cfg)
			}
			return r.note(nil, "apply %s of %s as %s, forced: %v", sub, named.GetName(), o.FieldManager, o.Force != nil && *o.Force)
		},
	}
	none := func(verb string) error { return r.note(nil, "%s", verb) }
	funcs.Get = func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
		return none("get")
	}
	funcs.List = func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
		return none("list")
	}
	return &apply.Applier{
		Client: interceptor.NewClient(fake.NewClientBuilder().Build(), funcs),
		Observe: func(obj client.Object, op apply.Operation, err error) {
			r.observed = append(r.observed, fmt.Sprintf("%s %s, error: %v", op, obj.GetName(), err != nil))
		},
	}
}

func resource() schema.GroupResource {
	return networkingv1.Resource("networkpolicies")
}

const denyName = "pcinb-pci-default-deny"

func TestWrite(t *testing.T) {
	drifted := stored(intendedDeny())
	drifted.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{}}
	forbidden := apierrors.NewForbidden(resource(), denyName, errors.New("no"))
	conflict := apierrors.NewConflict(resource(), denyName, errors.New("changed"))
	cases := map[string]struct {
		live          client.Object
		err           error
		wantRequests  []string
		wantObserved  []string
		wantOperation apply.Operation
		wantError     string
	}{
		"nothing there is created once": {
			wantRequests: []string{"create " + denyName + " as pci-network-baseline"},
			wantObserved: []string{"create " + denyName + ", error: false"}, wantOperation: apply.Created,
		},
		"what is equal is left alone": {live: stored(intendedDeny()), wantOperation: apply.None},
		"what drifted is updated once, as it was seen": {
			live:         drifted,
			wantRequests: []string{"update " + denyName + " at 7 of uid-1 as pci-network-baseline"},
			wantObserved: []string{"update " + denyName + ", error: false"}, wantOperation: apply.Updated,
		},
		"a create that fails is not tried again": {
			err:          forbidden,
			wantRequests: []string{"create " + denyName + " as pci-network-baseline"},
			wantObserved: []string{"create " + denyName + ", error: true"},
			wantError:    "creating *v1.NetworkPolicy shop/" + denyName + ": ",
		},
		"an update that fails is not tried again": {
			live: drifted, err: conflict,
			wantRequests: []string{"update " + denyName + " at 7 of uid-1 as pci-network-baseline"},
			wantObserved: []string{"update " + denyName + ", error: true"},
			wantError:    "updating *v1.NetworkPolicy shop/" + denyName + ": ",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			r := &recorder{err: tc.err}
			got, err := r.applier().Write(t.Context(), intendedDeny(), tc.live)
			checkError(t, err, tc.err, tc.wantError)
			if diff := cmp.Diff(tc.wantRequests, r.requests); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.wantObserved, r.observed); diff != "" {
				t.Errorf("observed (-want +got):\n%s", diff)
			}
			if got.Operation != tc.wantOperation {
				t.Errorf("operation %q, want %q", got.Operation, tc.wantOperation)
			}
		})
	}
}

// checkError wants an error that begins with the text and wraps the cause; none when the text is "".
func checkError(t *testing.T, got, cause error, text string) {
	t.Helper()
	switch {
	case text == "" && got != nil:
		t.Errorf("error %v, want none", got)
	case text != "" && (got == nil || !strings.HasPrefix(got.Error(), text) || !errors.Is(got, cause)):
		t.Errorf("error %v, want one that begins with %q and wraps the cause", got, text)
	}
}

// An update carries the whole intended spec, keeps harmless metadata of others, and drops what would let somebody else
// remove the object. The objects that it was given, which caches share, stay as they are.
func TestUpdateSendsTheWholeIntent(t *testing.T) {
	intended, live := intendedAllowance(), stored(intendedAllowance())
	live.Spec = networkingv1.NetworkPolicySpec{}
	live.Labels = map[string]string{"team": "shop", "app.kubernetes.io/instance": "argo", "pcinetwork.dev/baseline": "theirs"}
	live.Annotations = map[string]string{"note": "looked at", "meta.helm.sh/release-name": "theirs"}
	live.OwnerReferences = []metav1.OwnerReference{{Name: "x", UID: "y"}}
	live.Finalizers = []string{"x/y"}
	intendedBefore, liveBefore := intended.DeepCopy(), live.DeepCopy()

	r := &recorder{}
	change, err := r.applier().Write(t.Context(), intended, live)
	if err != nil {
		t.Fatal(err)
	}
	want := intendedAllowance()
	want.UID, want.ResourceVersion = "uid-1", "7"
	want.Labels["team"] = "shop"
	want.Annotations["note"] = "looked at"
	if diff := cmp.Diff(client.Object(want), r.sent[0]); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	wantDrift := []string{
		"spec.podSelector", "spec.ingress", "spec.egress", "spec.policyTypes",
		"metadata.labels", "metadata.annotations", "metadata.ownerReferences", "metadata.finalizers",
	}
	if diff := cmp.Diff(wantDrift, change.Drift.Fields); diff != "" {
		t.Errorf("drift (-want +got):\n%s", diff)
	}
	if after := apply.Diff(intended, r.sent[0]); !after.None() {
		t.Errorf("what was sent still drifts: %v", after.Fields)
	}
	if diff := cmp.Diff(intendedBefore, intended) + cmp.Diff(liveBefore, live); diff != "" {
		t.Errorf("the given objects changed (-before +after):\n%s", diff)
	}
}

func TestCreateDoesNotTouchTheIntendedObject(t *testing.T) {
	intended, r := intendedDeny(), &recorder{}
	change, err := r.applier().Write(t.Context(), intended, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.sent[0] == client.Object(intended) || change.Object != r.sent[0] {
		t.Error("the intended object itself was sent, and the API server's answer is written into it")
	}
}

func TestDelete(t *testing.T) {
	request := []string{"delete " + denyName + " at 7 of uid-1"}
	forbidden := apierrors.NewForbidden(resource(), denyName, errors.New("no"))
	conflict := apierrors.NewConflict(resource(), denyName, errors.New("changed"))
	cases := map[string]struct {
		err, wantCause error
		want           string
	}{
		"exactly what was seen":               {},
		"what is gone already is no error":    {err: apierrors.NewNotFound(resource(), denyName)},
		"what changed meanwhile is one":       {err: conflict, wantCause: conflict, want: "deleting *v1.NetworkPolicy shop/" + denyName + ": "},
		"what may not be deleted is not gone": {err: forbidden, wantCause: forbidden, want: "deleting *v1.NetworkPolicy shop/" + denyName + ": "},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			r := &recorder{err: tc.err}
			checkError(t, r.applier().Delete(t.Context(), stored(intendedDeny())), tc.wantCause, tc.want)
			if diff := cmp.Diff(request, r.requests); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{fmt.Sprintf("delete %s, error: %v", denyName, tc.err != nil)}, r.observed); diff != "" {
				t.Errorf("observed (-want +got):\n%s", diff)
			}
		})
	}
}

// Whoever makes an object anew is told whether the one before may be gone.
func TestRenewTells(t *testing.T) {
	forbidden, timeout := apierrors.NewForbidden(resource(), denyName, errors.New("no")), apierrors.NewTimeoutError("no answer", 1)
	for name, tc := range map[string]struct {
		dryRun, del, create error
		going               bool // it is being deleted already
		requests            int
		gone, fails         bool
	}{
		"it is made anew":                   {requests: 3},
		"there is one, says the dry run":    {dryRun: apierrors.NewAlreadyExists(resource(), denyName), requests: 3},
		"the dry run is refused":            {dryRun: forbidden, requests: 1, fails: true},
		"the dry run is not answered":       {dryRun: timeout, requests: 1, fails: true},
		"the delete is refused":             {del: forbidden, requests: 2, fails: true},
		"it changed before the delete":      {del: apierrors.NewConflict(resource(), denyName, errors.New("changed")), requests: 2, fails: true},
		"the delete is not answered":        {del: timeout, requests: 2, fails: true, gone: true},
		"the connection ends in the delete": {del: errors.New("connection reset"), requests: 2, fails: true, gone: true},
		"the create is refused":             {create: forbidden, requests: 3, fails: true, gone: true},
		"it is being deleted, for ever":     {going: true, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			requests := 0
			c := interceptor.NewClient(fake.NewClientBuilder().Build(), interceptor.Funcs{
				Create: func(_ context.Context, _ client.WithWatch, _ client.Object, opts ...client.CreateOption) error {
					requests++
					if len((&client.CreateOptions{}).ApplyOptions(opts).DryRun) > 0 {
						return tc.dryRun
					}
					return tc.create
				},
				Delete: func(context.Context, client.WithWatch, client.Object, ...client.DeleteOption) error {
					requests++
					return tc.del
				},
			})
			live := stored(intendedDeny())
			if tc.going {
				live.SetDeletionTimestamp(new(metav1.Now()))
			}
			_, err := (&apply.Applier{Client: c, Observe: func(client.Object, apply.Operation, error) {}}).Renew(t.Context(), intendedDeny(), live)
			if (err != nil) != tc.fails || errors.Is(err, apply.ErrDeleted) != tc.gone || requests != tc.requests {
				t.Errorf("%v after %d requests", err, requests)
			}
		})
	}
}

// What is not there may be deleted, if it could be there.
func TestRehearse(t *testing.T) {
	const want = "asking whether *v1.NetworkPolicy shop/" + denyName + " may be deleted: "
	forbidden := apierrors.NewForbidden(resource(), denyName, errors.New("no"))
	noPath := apierrors.NewGenericServerResponse(http.StatusNotFound, "delete", resource(), denyName, "404 page not found", 0, true)
	cases := map[string]struct {
		err, wantCause error
		want           string
	}{
		"it is there":                  {},
		"it is not there":              {err: apierrors.NewNotFound(resource(), denyName)},
		"the right is missing":         {err: forbidden, wantCause: forbidden, want: want},
		"there is nothing of its kind": {err: noPath, wantCause: noPath, want: want},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			r := &recorder{err: tc.err}
			checkError(t, r.applier().Rehearse(t.Context(), stored(intendedDeny())), tc.wantCause, tc.want)
		})
	}
}

func TestApplyStatus(t *testing.T) {
	payload := &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{"covered": "1/1"}}}
	payload.SetGroupVersionKind(schema.GroupVersionKind{Group: "pcinetwork.dev", Version: "v1alpha1", Kind: "PCINetworkBaseline"})
	payload.SetName("pci")
	failure := errors.New("down")
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"one forced request under the owner's name": {},
		"a failure is told once":                    {err: failure, want: "applying the status of PCINetworkBaseline /pci: "},
	} {
		t.Run(name, func(t *testing.T) {
			r := &recorder{err: tc.err}
			checkError(t, r.applier().ApplyStatus(t.Context(), payload, "pcinb-baseline"), tc.err, tc.want)
			if diff := cmp.Diff([]string{"apply status of pci as pcinb-baseline, forced: true"}, r.requests); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{fmt.Sprintf("patch pci, error: %v", tc.err != nil)}, r.observed); diff != "" {
				t.Errorf("observed (-want +got):\n%s", diff)
			}
		})
	}
}

// Whoever made the object tracks it by labels that would be drift on ours.
func TestReplace(t *testing.T) {
	live := stored(intendedDeny())
	live.Labels["app.kubernetes.io/instance"] = "theirs"
	changed := live.DeepCopy()
	changed.Annotations["note"] = "x"
	r := &recorder{}
	if err := r.applier().Replace(t.Context(), changed); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"update " + denyName + " at 7 of uid-1 as pci-network-baseline"}, r.requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"update " + denyName + ", error: false"}, r.observed); diff != "" {
		t.Errorf("observed (-want +got):\n%s", diff)
	}
	if got := r.sent[0]; got.GetLabels()["app.kubernetes.io/instance"] != "theirs" || got.GetAnnotations()["note"] != "x" {
		t.Errorf("sent %v, %v", got.GetLabels(), got.GetAnnotations())
	}
	conflict := apierrors.NewConflict(resource(), denyName, errors.New("changed"))
	err := (&recorder{err: conflict}).applier().Replace(t.Context(), changed)
	checkError(t, err, conflict, "updating *v1.NetworkPolicy shop/"+denyName+": ")
}

func TestSetFinalizers(t *testing.T) {
	live, r := stored(intendedDeny()), &recorder{}
	if err := r.applier().SetFinalizers(t.Context(), live, []string{"pcinetwork.dev/policies"}); err != nil {
		t.Fatal(err)
	}
	want := []string{"patch " + denyName + ` as pci-network-baseline: {"metadata":{"finalizers":["pcinetwork.dev/policies"],"resourceVersion":"7"}}`}
	if diff := cmp.Diff(want, r.requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if len(live.Finalizers) > 0 {
		t.Error("the given object changed, which caches share")
	}
}
