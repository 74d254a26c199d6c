// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"cmp"
	"context"
	"encoding/base64"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// callee notes what the API server calls, and has the endpoints of its Service looked at.
func (i *inventory) callee(c snapshot.Callee, role snapshot.Role, service types.NamespacedName, port int32, bundle []byte) {
	if len(bundle) > 0 {
		whole := false
		c.Bundle, whole = snapshot.CertificatesOf(bundle)
		c.Unparsed = !whole
	}
	if service.Name != "" {
		c.Service = service.String()
		i.targets = append(i.targets, &target{service: service, port: port, like: snapshot.Interface{
			Role: role, Object: c.Object, ServerName: service.Name + "." + service.Namespace + ".svc", Roots: string(bundle),
		}})
	}
	i.out.Callees = append(i.out.Callees, c)
}

const httpsPort = 443 // of Services of APIServices and webhooks that name none

// aggregatedAPIs finds the APIs that other servers serve.
func (i *inventory) aggregatedAPIs(ctx context.Context) {
	pages(ctx, i, "apiservices.apiregistration.k8s.io", func(list *unstructured.UnstructuredList) {
		for n := range list.Items {
			spec, _ := list.Items[n].Object["spec"].(map[string]any)
			service, _ := spec["service"].(map[string]any)
			if service == nil {
				continue // the API server serves it itself
			}
			name, _ := service["name"].(string)
			namespace, _ := service["namespace"].(string)
			port, _ := service["port"].(int64)
			unverified, _ := spec["insecureSkipTLSVerify"].(bool)
			encoded, _ := spec["caBundle"].(string)
			bundle, _ := base64.StdEncoding.DecodeString(encoded) // the API server has checked it
			i.callee(snapshot.Callee{Object: "APIService " + list.Items[n].GetName(), Unverified: unverified}, snapshot.RoleAggregatedAPI,
				types.NamespacedName{Namespace: namespace, Name: name}, int32(cmp.Or(port, httpsPort)), bundle)
		}
	})
}

// webhooks finds what the API server sends objects to before it stores them.
func (i *inventory) webhooks(ctx context.Context) {
	pages(ctx, i, "validatingwebhookconfigurations.admissionregistration.k8s.io", func(validating *admissionregistrationv1.ValidatingWebhookConfigurationList) {
		for n := range validating.Items {
			for _, w := range validating.Items[n].Webhooks {
				i.webhook("ValidatingWebhookConfiguration "+validating.Items[n].Name+", "+w.Name, w.ClientConfig)
			}
		}
	})
	pages(ctx, i, "mutatingwebhookconfigurations.admissionregistration.k8s.io", func(mutating *admissionregistrationv1.MutatingWebhookConfigurationList) {
		for n := range mutating.Items {
			for _, w := range mutating.Items[n].Webhooks {
				i.webhook("MutatingWebhookConfiguration "+mutating.Items[n].Name+", "+w.Name, w.ClientConfig)
			}
		}
	})
}

// conversions finds what the API server has convert custom resources.
func (i *inventory) conversions(ctx context.Context) {
	pages(ctx, i, "customresourcedefinitions.apiextensions.k8s.io", func(list *unstructured.UnstructuredList) {
		for n := range list.Items {
			object := "CustomResourceDefinition " + list.Items[n].GetName()
			called, found, err := unstructured.NestedMap(list.Items[n].Object, "spec", "conversion", "webhook", "clientConfig")
			if err == nil && !found {
				continue // it is converted by nobody else
			}
			var c admissionregistrationv1.WebhookClientConfig // of the same form
			if err == nil {
				err = runtime.DefaultUnstructuredConverter.FromUnstructured(called, &c)
			}
			if err != nil {
				i.out.Gaps = append(i.out.Gaps, snapshot.Gap{
					What: object, Why: "its conversion webhook is not understood", Remedy: "Look at it by hand: kubectl get crd -o yaml", Traffic: true,
				})
				continue
			}
			i.webhook(object, c)
		}
	}, client.Limit(bigPage))
}

func (i *inventory) webhook(object string, c admissionregistrationv1.WebhookClientConfig) {
	callee := snapshot.Callee{Object: object}
	var service types.NamespacedName
	port := int32(httpsPort)
	if s := c.Service; s != nil {
		service = types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
		if s.Port != nil {
			port = *s.Port
		}
	} else if c.URL != nil {
		callee.URL = *c.URL
	}
	i.callee(callee, snapshot.RoleWebhook, service, port, c.CABundle)
}
