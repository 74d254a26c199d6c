// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Drift is how a live object differs from the intended one.
type Drift struct {
	// Fields are the paths that differ, such as spec.ingress or metadata.labels.
	Fields []string
	// Manager is the field manager that last wrote the object and is not ours, At when; empty when it is not known.
	Manager string
	At      time.Time
}

// None says whether the objects are alike in all that we own.
func (d Drift) None() bool { return len(d.Fields) == 0 }

// tracking lists the prefixes of labels and annotations by which other tools claim an object as theirs, to prune or
// delete it when they no longer want it. On our objects they are drift.
var tracking = []string{
	"app.kubernetes.io/instance",
	"applyset.kubernetes.io/",
	"argocd.argoproj.io/instance",
	"argocd.argoproj.io/tracking-id",
	"kustomize.toolkit.fluxcd.io/",
	"helm.toolkit.fluxcd.io/",
	"meta.helm.sh/",
	"kapp.k14s.io/",
	"objectset.rio.cattle.io/",
	"generate.kyverno.io/",
}

// TrackingPrefixes returns the prefixes of the labels and annotations that are drift on our objects.
func TrackingPrefixes() []string { return slices.Clone(tracking) }

// Diff compares everything that we own of an object: its whole spec (or, where the type has none, its status; of an untyped
// object everything but metadata and status), our labels and annotations, and the absence of foreign owner references, of
// finalizers and tracking labels, any of which would let somebody else remove the object. Nil equals empty, as it does for the
// API server.
func Diff(intended, live client.Object) Drift {
	d := Drift{Fields: differing(intended, live)}
	if !holds(live.GetLabels(), intended.GetLabels()) {
		d.Fields = append(d.Fields, "metadata.labels")
	}
	if !holds(live.GetAnnotations(), intended.GetAnnotations()) {
		d.Fields = append(d.Fields, "metadata.annotations")
	}
	if !apiequality.Semantic.DeepEqual(intended.GetOwnerReferences(), live.GetOwnerReferences()) {
		d.Fields = append(d.Fields, "metadata.ownerReferences")
	}
	if len(live.GetFinalizers()) > 0 {
		d.Fields = append(d.Fields, "metadata.finalizers")
	}
	if !d.None() {
		d.Manager, d.At = lastManager(live)
	}
	return d
}

// differing returns the paths of the content that differ.
func differing(intended, live client.Object) []string {
	want, untyped := intended.(*unstructured.Unstructured)
	have, alike := live.(*unstructured.Unstructured)
	if untyped && alike {
		return differingKeys(want.Object, have.Object)
	}
	var out []string
	name, value := payload(intended)
	_, other := payload(live)
	for i := range value.NumField() {
		if !apiequality.Semantic.DeepEqual(value.Field(i).Interface(), other.Field(i).Interface()) {
			out = append(out, name+"."+jsonName(value.Type().Field(i)))
		}
	}
	return out
}

// differingKeys returns the keys of the content of untyped objects that differ. Who they are is the same, or they would not be
// compared.
func differingKeys(want, have map[string]any) []string {
	all := maps.Clone(want)
	maps.Copy(all, have)
	for _, other := range []string{"apiVersion", "kind", "metadata", "status"} {
		delete(all, other)
	}
	maps.DeleteFunc(all, func(key string, _ any) bool { return apiequality.Semantic.DeepEqual(want[key], have[key]) })
	return slices.Sorted(maps.Keys(all))
}

// payload returns the part of an object that holds its content: spec, or status where there is no spec.
func payload(obj client.Object) (string, reflect.Value) {
	v := reflect.ValueOf(obj).Elem()
	if spec := v.FieldByName("Spec"); spec.IsValid() {
		return "spec", spec
	}
	return "status", v.FieldByName("Status")
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// holds says whether have holds every pair of want and no tracking key.
func holds(have, want map[string]string) bool {
	for k, v := range want {
		if got, ok := have[k]; !ok || got != v {
			return false
		}
	}
	return len(trackingKeys(have)) == 0
}

func trackingKeys(m map[string]string) []string {
	var out []string
	for k := range m {
		if slices.ContainsFunc(tracking, func(p string) bool { return strings.HasPrefix(k, p) }) {
			out = append(out, k)
		}
	}
	return out
}

// lastManager returns the newest field manager that is not ours.
func lastManager(obj client.Object) (string, time.Time) {
	if e := newestForeign(obj.GetManagedFields()); e != nil {
		return e.Manager, e.Time.Time
	}
	return "", time.Time{}
}

// newestForeign returns the newest entry that is not ours, unless we wrote after it.
func newestForeign(entries []metav1.ManagedFieldsEntry) *metav1.ManagedFieldsEntry {
	var newest, ours *metav1.ManagedFieldsEntry
	for i := range entries {
		e := &entries[i]
		switch {
		case e.Time == nil:
		case e.Manager == FieldOwner && (ours == nil || ours.Time.Before(e.Time)):
			ours = e
		case e.Manager != FieldOwner && (newest == nil || newest.Time.Before(e.Time)):
			newest = e
		}
	}
	if newest != nil && ours != nil && newest.Time.Before(ours.Time) {
		return nil
	}
	return newest
}

// TrimManagedFields keeps of an object's managed fields only who wrote it last beside us, and when. It is meant for cache
// transforms: the field sets are the largest part of most objects, and Drift needs the name alone.
func TrimManagedFields(obj client.Object) {
	entries := obj.GetManagedFields()
	if entries == nil {
		return
	}
	newest := newestForeign(entries)
	if newest == nil {
		obj.SetManagedFields(nil)
		return
	}
	obj.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: newest.Manager, Operation: newest.Operation, Time: newest.Time}})
}
