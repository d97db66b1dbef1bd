-- The requests that carry no model: which endpoint they are of, and who may use it. Only gateways with such endpoints
-- have this file. The compiler puts before it: RESOURCES, a text of lines "endpoint TAB methods TAB path" with an
-- asterisk for each id, and ENDPOINT_USERS, a text of lines "consumer TAB endpoint".
local TREE, MAY_USE = {}, {}
-- Keys of a node beside its segments, which are texts: what is here, and what follows an id.
local HERE, ID = 1, 2
for endpoint, methods, path in string.gmatch(RESOURCES, "([^\t\n]+)\t([^\t\n]+)\t([^\t\n]+)\n") do
  local node = TREE
  for segment in string.gmatch(path, "[^/]+") do
    local key = segment == "*" and ID or segment
    node[key] = node[key] or {}
    node = node[key]
  end
  node[HERE] = { endpoint = endpoint, allow = methods, methods = {} }
  for method in string.gmatch(methods, "%u+") do node[HERE].methods[method] = true end
end
for consumer, endpoint in string.gmatch(ENDPOINT_USERS, "([^\t\n]+)\t([^\t\n]+)\n") do
  MAY_USE[consumer] = MAY_USE[consumer] or {}
  MAY_USE[consumer][endpoint] = true
end

local function resource_at(path)
  local below = string.match(path, "^/v1/(.+)$")
  if not below then return nil end
  local node = TREE
  for segment in string.gmatch(below .. "/", "([^/]*)/") do
    -- An id is nothing that any server could take for more than a name.
    node = node[segment] or (find(segment, "^[%w_][%w_.:-]*$") and node[ID])
    if not node then return nil end
  end
  return node[HERE]
end

-- The query that the provider gets: the client's, but for what the route says itself.
local function with_query(query, fixed)
  if not fixed then return query end
  local kept = { fixed }
  for parameter in string.gmatch(query, "[^&]+") do
    if lower(string.match(parameter, "^[^=]*")) ~= string.match(fixed, "^[^=]*") then kept[#kept + 1] = parameter end
  end
  return table.concat(kept, "&")
end

-- Lets a request of an endpoint pass and returns the endpoint's name, or nil when it is of none. Where the request is
-- refused, the status follows, the message and perhaps the methods that are allowed.
local function ask_endpoint(handle, headers, consumer, path, query)
  local resource = resource_at(path)
  if not resource then return nil end
  local endpoint = resource.endpoint
  if not (MAY_USE[consumer] or {})[endpoint] then
    return endpoint, "403", "This API key is not allowed to use the endpoint '" .. endpoint .. "'."
  end
  if not resource.methods[headers:get(":method")] then
    return endpoint, "405", "This URL allows the methods " .. resource.allow .. " only.", resource.allow
  end
  headers:replace("x-gw-endpoint", endpoint)
  handle:clearRouteCache()
  -- A provider may need a query of its own.
  query = with_query(query, handle:metadata():get("query"))
  if query ~= "" then headers:replace(":path", path .. "?" .. query) end
  return endpoint
end
