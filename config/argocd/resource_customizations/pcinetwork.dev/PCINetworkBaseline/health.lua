-- Health of PCINetworkBaseline and NamespaceCoverage, for Argo CD. Conditions follow kstatus: Stalled and Reconciling are
-- present only when true. observedGeneration is -1 until the operator has looked; a NamespaceCoverage has none, because
-- the operator writes it whole. One script for both kinds, so that it also serves under the key pcinetwork.dev/*.
local function health(status, message)
  return { status = status, message = message }
end

local conditions = {}
if obj.status ~= nil and obj.status.conditions ~= nil then
  for _, condition in ipairs(obj.status.conditions) do
    conditions[condition.type] = condition
  end
end

local function holds(name)
  return conditions[name] ~= nil and conditions[name].status == "True"
end

if obj.metadata.deletionTimestamp ~= nil then
  return health("Progressing", "Pending deletion") -- Argo CD's own words, which it does not run a script for
end
if obj.status == nil then
  return health("Progressing", "Waiting for the operator's first report")
end
if obj.status.observedGeneration ~= nil and obj.status.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "Waiting for the operator to report on the latest spec")
end
if holds("Stalled") then
  return health("Degraded", conditions.Stalled.message)
end
if holds("Reconciling") then
  return health("Progressing", conditions.Reconciling.message)
end

local ready = conditions.Ready
if ready == nil then
  return health("Progressing", "Waiting for the operator's first report")
end
if ready.status == "True" then
  return health("Healthy", ready.message)
end
if ready.status == "False" and ready.reason == "AuditMode" then
  return health("Suspended", ready.message)
end
return health("Progressing", ready.message)
