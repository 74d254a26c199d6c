// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// definitionsOnly answers with one CustomResourceDefinition.
type definitionsOnly struct {
	client.Reader

	conversion map[string]any
}

func (d definitionsOnly) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	if list, is := list.(*unstructured.UnstructuredList); is {
		list.Items = []unstructured.Unstructured{{Object: map[string]any{
			"metadata": map[string]any{"name": "cards.example.com"}, "spec": map[string]any{"conversion": d.conversion},
		}}}
	}
	return nil
}

// What the API server sends objects to is called, or told to be unknown; never passed over. What a real one answers is in test/management.
func TestConversions(t *testing.T) {
	t.Parallel()
	webhook := func(called any) map[string]any {
		return map[string]any{"strategy": "Webhook", "webhook": map[string]any{"clientConfig": called}}
	}
	const unknown = "CustomResourceDefinition cards.example.com: its conversion webhook is not understood"
	for name, tc := range map[string]struct {
		conversion map[string]any
		want       []string // callees and gaps
	}{
		"nobody converts":    {conversion: map[string]any{"strategy": "None"}},
		"a Service does":     {webhook(map[string]any{"service": map[string]any{"namespace": "a", "name": "b"}}), []string{"CustomResourceDefinition cards.example.com"}},
		"it is no object":    {webhook("https://example.com"), []string{unknown}},
		"its Service is not": {webhook(map[string]any{"service": "a/b"}), []string{unknown}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newInventory(definitionsOnly{conversion: tc.conversion}, nil)
			i.conversions(t.Context())
			var got []string
			for _, c := range i.out.Callees {
				got = append(got, c.Object)
			}
			for _, g := range i.out.Gaps {
				got = append(got, g.What+": "+g.Why)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("called and said (-want +got):\n%s", diff)
			}
		})
	}
}
