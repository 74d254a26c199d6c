// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package semantic_test

import (
	"encoding/json"
	"fmt"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/render/calico"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cilium"
	"github.com/pcinetwork/pci-network-baseline/internal/render/core"
	"github.com/pcinetwork/pci-network-baseline/test/felix"
)

// engine evaluates what one backend renders.
type engine struct {
	backend render.Backend
	reading reading
	// load reads encoded objects and returns who answers.
	load func(w world, objects [][]byte) (func(packet) (bool, error), error)
}

func engines() []engine {
	return []engine{
		{backend: core.Backend{}, load: loadCyclonus},
		{backend: calico.Backend{}, load: loadFelix},
		{backend: cilium.Backend{}, load: loadCilium, reading: reading{identities: true}},
	}
}

// encoded renders a set and encodes it as it goes to the API server.
func encoded(b render.Backend, s policy.Set) ([][]byte, error) {
	var out [][]byte
	for _, p := range s.Ordered() {
		text, err := encode(render.Render(b, s, p))
		if err != nil {
			return nil, err
		}
		out = append(out, text)
	}
	return out, nil
}

var scheme = func() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{networkingv1.AddToScheme, calico.AddToScheme, cilium.AddToScheme} {
		if err := add(s); err != nil {
			panic(err)
		}
	}
	return s
}()

func encode(obj render.Object) ([]byte, error) {
	kinds, _, err := scheme.ObjectKinds(obj)
	if err != nil {
		return nil, err
	}
	obj.GetObjectKind().SetGroupVersionKind(kinds[0])
	return json.Marshal(obj)
}

// loadFelix lets our reading of Calico's documentation read its policies.
func loadFelix(w world, objects [][]byte) (func(packet) (bool, error), error) {
	var policies []*felix.Policy
	for _, text := range objects {
		p, err := felix.Decode(text)
		if err != nil {
			return nil, fmt.Errorf("%w in %s", err, text)
		}
		policies = append(policies, p)
	}
	return func(p packet) (bool, error) {
		q := felix.Packet{
			Ingress:  p.direction == pcinetv1alpha1.DirectionIngress,
			Endpoint: felix.Pod(w.namespace.Name, w.namespace.Labels, p.pod),
			Remote:   p.remote.addr, Protocol: string(p.protocol), Port: int(p.port),
		}
		switch p.remote.place {
		case inPod:
			q.At = append(q.At, felix.Pod(p.remote.namespace.Name, p.remote.namespace.Labels, p.remote.pod))
		case onNode, onOwnNode, apiServer: // a host endpoint has the labels of its node, and whatever its owner gave it
			q.At = append(q.At, felix.Labels{"kubernetes.io/hostname": "n", "app": "a"})
		default:
			if p.remote.set != nil {
				q.At = append(q.At, felix.Labels(p.remote.set))
			}
		}
		return felix.Passes(policies, q), nil
	}, nil
}
