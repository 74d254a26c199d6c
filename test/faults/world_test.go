// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/controllers"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cilium"
	"github.com/pcinetwork/pci-network-baseline/test/cluster"
)

const (
	operatorNamespace = "pci-network-baseline-system"
	operatorUser      = "system:serviceaccount:" + operatorNamespace + ":pci-network-baseline"
)

// world is a control plane with Cilium as its policy engine, so that there are two APIs to write to. It has no controller
// manager: namespaces go when a play says so.
type world struct {
	cluster *cluster.Cluster
	config  *rest.Config // of a cluster administrator, as http and client
	http    *http.Client
	client  client.WithWatch
	emptier client.Client // of the namespace controller
}

func startWorld(dir string) (*world, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	c, err := cluster.Start(ctx, cluster.Options{Dir: dir, Assets: cluster.Assets(repoRoot, os.Getenv("KUBEBUILDER_ASSETS"))})
	if err != nil {
		return nil, err
	}
	w := &world{cluster: c, config: c.Config()}
	w.config.QPS = -1
	if err := w.furnish(ctx); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return w, nil
}

// furnish installs what the operator needs, and gives the cluster a DNS and a policy engine.
func (w *world) furnish(ctx context.Context) error {
	s := runtime.NewScheme()
	err := errors.Join(scheme.AddToScheme(s), pcinetv1alpha1.AddToScheme(s), cilium.AddToScheme(s))
	if err != nil {
		return err
	}
	if w.http, err = rest.HTTPClientFor(w.config); err != nil {
		return err
	}
	if w.client, err = client.NewWithWatch(w.config, client.Options{Scheme: s, HTTPClient: w.http}); err != nil {
		return err
	}
	conf := rest.CopyConfig(w.config)
	conf.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:kube-system:namespace-controller", Groups: []string{"system:serviceaccounts", "system:authenticated"},
	}
	if w.emptier, err = client.New(conf, client.Options{Scheme: s}); err != nil {
		return err
	}
	engine := filepath.Join(repoRoot, "test", "platforms", "testdata", "cilium", "cluster.yaml")
	if _, err := w.cluster.Run(ctx, "apply", "--server-side", "-f", engine); err != nil {
		return err
	}
	if err := w.cluster.Install(ctx, repoRoot); err != nil {
		return err
	}
	if err := w.setStatuses(ctx, engine); err != nil {
		return err
	}
	return w.createDNS(ctx)
}

// setStatuses writes the statuses of a file's nodes and DaemonSets, which kubectl apply leaves out.
func (w *world) setStatuses(ctx context.Context, path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for {
		object := &unstructured.Unstructured{}
		if err := decoder.Decode(&object.Object); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if status, ok := object.Object["status"]; ok {
			patch := &unstructured.Unstructured{Object: map[string]any{"status": status}}
			patch.SetGroupVersionKind(object.GroupVersionKind())
			patch.SetNamespace(object.GetNamespace())
			patch.SetName(object.GetName())
			err := w.client.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(patch), client.FieldOwner("kubelet"), client.ForceOwnership)
			if err != nil {
				return err
			}
		}
	}
}

// createDNS creates the cluster's DNS as kubeadm makes it. No pod runs, so the endpoints are made up.
func (w *world) createDNS(ctx context.Context) error {
	meta := metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "kube-dns", Labels: map[string]string{
		"k8s-app": "kube-dns", discoveryv1.LabelServiceName: "kube-dns",
	}}
	service := &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Selector: map[string]string{"k8s-app": "kube-dns"}}}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.10"}}},
	}
	for _, protocol := range []corev1.Protocol{corev1.ProtocolUDP, corev1.ProtocolTCP} {
		name := "dns-" + map[corev1.Protocol]string{corev1.ProtocolUDP: "udp", corev1.ProtocolTCP: "tcp"}[protocol]
		service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{Name: name, Protocol: protocol, Port: 53})
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: new(name), Protocol: new(protocol), Port: new(int32(53))})
	}
	return errors.Join(w.client.Create(ctx, service), w.client.Create(ctx, slice))
}

// operator is an operator that runs in this process. It is elected at once: nothing here is about leases.
type operator struct {
	wire   *wire
	cancel context.CancelFunc
	done   chan error
}

// start starts an operator as its ServiceAccount, behind a wire, and returns when its caches are in sync.
func (w *world) start(wire *wire, c clock.PassiveClock) (*operator, error) {
	o := &operator{wire: wire, done: make(chan error, 1)}
	conf := rest.CopyConfig(w.config)
	conf.Impersonate = rest.ImpersonationConfig{
		UserName: operatorUser,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + operatorNamespace, "system:authenticated"},
	}
	conf.ContentType, conf.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON // so that the wire can read it
	conf.Wrap(func(next http.RoundTripper) http.RoundTripper { return strand{wire, next} })
	mgr, err := controllers.NewManager(conf, ctrl.Options{
		Metrics:                metricsserver.Options{BindAddress: "0"},
		HealthProbeBindAddress: "0",
		Controller:             config.Controller{SkipNameValidation: new(true)}, // there are many in this process
	})
	if err != nil {
		return nil, err
	}
	err = controllers.Setup(mgr, controllers.Options{Namespace: operatorNamespace, Workers: 8, Registry: prometheus.NewRegistry(), Clock: c})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	o.cancel = cancel
	go func() { o.done <- mgr.Start(ctx) }()
	if !mgr.GetCache().WaitForCacheSync(ctx) {
		return nil, errors.Join(errors.New("the operator's caches do not sync"), o.kill())
	}
	return o, nil
}

// kill ends the operator as the end of its process does: from now on nothing of it reaches the API server. It returns when
// what was on its way has arrived and nothing of the operator runs.
func (o *operator) kill() error {
	o.wire.cut()
	o.cancel()
	select {
	case err := <-o.done:
		return err
	case <-time.After(patience):
		return errors.New("the operator does not end")
	}
}
