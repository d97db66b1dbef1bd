-- The answer about one model, made of the list of those that the key may use.
local function show_model(handle, name)
  if handle:headers():get(":status") ~= "200" then return end
  local body = handle:body()
  local list = body:getBytes(0, body:length())
  -- A quote or a backslash is in no name.
  local at, stop = nil, nil
  if not find(name, '["\\]') then at, stop = find(list, '"id":"' .. name .. '"', 1, true) end
  if at then
    -- Names may have braces, but there is nothing else before and after this one.
    while byte(list, at) ~= OPEN_BRACE do at = at - 1 end
    body:setBytes(sub(list, at, (find(list, "}", stop, true))))
    return
  end
  handle:headers():replace(":status", "404")
  local shown = string.gsub(name, "[^ !#-Z%[%]^-~]", "?")
  body:setBytes(
    '{"error":{"message":"The model \'' .. shown
      .. '\' does not exist.","type":"invalid_request_error","param":"model","code":"model_not_found"}}'
  )
end
